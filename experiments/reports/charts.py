"""A report's charts, drawn from the numbers of records alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.cost.price_chart import draw_price
from experiments.present.drawing import BLUE, HATCHES, MARKERS, PALETTE, VERMILION, Picture, draw_picture
from experiments.records.records import Record
from experiments.reports.tables import Section, group_by_configuration


def draw_chart(section: Section) -> Picture | None:
    """The chart of a section, for the kinds that have one."""
    drawers: dict[str, Callable[[Sequence[Record]], Picture | None]] = {
        "accuracy": draw_accuracy,
        "inversion": draw_inversion,
        "membership": draw_membership,
        "price": _price,
    }
    drawer = drawers.get(section.kind)
    return None if drawer is None else drawer(section.records)


def draw_accuracy(records: Sequence[Record]) -> Picture | None:
    """Clear and encrypted accuracy of each configuration, with the mean of the 95 % intervals over the seeds."""
    sound = [record for record in records if isinstance(record.figures.get("encrypted"), Mapping)]
    groups = list(group_by_configuration(sound).items())
    if not groups:
        return None

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for place, (_, runs) in enumerate(groups):
            for kind, colour, marker, shift in (("clear", BLUE, "o", -0.13), ("encrypted", VERMILION, "s", 0.13)):
                values = [run.figures[kind] for run in runs]
                middle = float(np.mean([one["accuracy"] for one in values]))
                low, high = (float(np.mean([one["accuracy_interval"][side] for one in values])) for side in (0, 1))
                axis.errorbar(
                    middle,
                    place + shift,
                    xerr=[[max(middle - low, 0)], [max(high - middle, 0)]],
                    fmt=marker,
                    color=colour,
                    markersize=5,
                    capsize=3,
                    label=kind if place == 0 else None,
                )
        axis.set_yticks(range(len(groups)), [f"{', '.join(key)} ({len(runs)})" for key, runs in groups])
        axis.set_ylim(len(groups) - 0.5, -0.6)
        axis.set_xlabel("test accuracy, with its 95 % bootstrap interval (in brackets: seeds)")
        axis.grid(axis="x", linewidth=0.4)
        axis.legend(ncols=2, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))

    size = (8.4, 1.2 + 0.38 * len(groups))
    return draw_picture(draw, size, "Points with intervals: accuracy in clear and encrypted for each configuration")


def draw_inversion(records: Sequence[Record]) -> Picture:
    """PSNR and share of recognised images for each way of rebuilding."""
    ways = list(records[0].figures["rebuilt"])

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axis, name, label in zip(
            panels, ("psnr", "found"), ("PSNR, dB", "recognised among the test images, %"), strict=True
        ):
            for number, record in enumerate(records):
                rebuilt = record.figures["rebuilt"]
                values = [rebuilt[way][name] * (100 if name == "found" else 1) for way in ways]
                at = np.arange(len(ways)) + (number - (len(records) - 1) / 2) * 0.8 / len(records)
                axis.barh(
                    at,
                    values,
                    0.76 / len(records),
                    color=PALETTE[number % len(PALETTE)],
                    hatch=HATCHES[number % len(HATCHES)],
                    edgecolor="white",
                    label=record.parameters.get("dataset", ""),
                )
                for y, value in zip(at, values, strict=True):
                    axis.annotate(f"{value:.1f}", (value, y), xytext=(2, 0), textcoords="offset points", va="center")
            axis.set_xlabel(label)
            axis.set_xlim(0, axis.get_xlim()[1] * 1.1)
        panels[0].set_yticks(range(len(ways)), ways)
        panels[0].invert_yaxis()
        panels[0].legend(ncols=3, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))

    return draw_picture(
        draw, (8.4, 3.6), "Bars: how like their originals rebuilt images are, from features and ciphertexts"
    )


def draw_membership(records: Sequence[Record]) -> Picture:
    """AUC with its interval for each view of the attacker."""
    names = list(records[0].figures["signals"])

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for number, record in enumerate(records):
            for place, name in enumerate(names):
                one = record.figures["signals"].get(name)
                if one is None:
                    continue
                axis.errorbar(
                    one["auc"],
                    place + (number - (len(records) - 1) / 2) * 0.3,
                    xerr=[[max(one["auc"] - one["low"], 0)], [max(one["high"] - one["auc"], 0)]],
                    fmt=MARKERS[number % len(MARKERS)],
                    color=PALETTE[number % len(PALETTE)],
                    capsize=3,
                    label=record.parameters.get("dataset", "") if place == 0 else None,
                )
        axis.axvline(0.5, color="black", linestyle="--", linewidth=1)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_xlabel("AUC of membership inference with its 95 % interval (dashed: a guess)")
        axis.legend(ncols=3, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))

    return draw_picture(
        draw, (7.6, 3.8), "Points with intervals: membership inference's AUC for each view of the attacker"
    )


def _price(records: Sequence[Record]) -> Picture:
    """Draw the rows of every record of `price`, each with its data set's name."""
    return draw_price(
        [(str(record.parameters.get("dataset", "")), row) for record in records for row in record.figures["rows"]]
    )
