"""The chart of `he-experiments price`: accuracy, milliseconds and kilobytes of each path."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.present.drawing import HATCHES, MARKERS, PALETTE, Picture, draw_picture


def draw_price(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Picture:
    """Draw accuracy, latency and bytes side by side, one line for each head and path.

    Args:
        rows: name of the data set, and the fields of a `PriceRow`.
    """
    paths = list(dict.fromkeys(str(row["path"]) for _, row in rows))
    several = len({name for name, _ in rows}) > 1
    at = range(len(rows))

    def look(row: Mapping[str, Any]) -> dict[str, Any]:
        number = paths.index(str(row["path"]))
        return {"color": PALETTE[number % len(PALETTE)], "hatch": HATCHES[number % len(HATCHES)], "edgecolor": "white"}

    def draw(figure: Any) -> None:
        accuracies, times, sizes = figure.subplots(1, 3, sharey=True, width_ratios=[0.7, 1.25, 1.1])
        for place, (_, row) in zip(at, rows, strict=True):
            low, high = compute_wilson_interval(row["accuracy"], row["images"])
            number = paths.index(str(row["path"]))
            accuracies.errorbar(
                row["accuracy"],
                place,
                xerr=[[max(row["accuracy"] - low, 0)], [max(high - row["accuracy"], 0)]],
                fmt=MARKERS[number % len(MARKERS)],
                color=PALETTE[number % len(PALETTE)],
                capsize=3,
            )
            _bar(times, place, row["wall_ms"], look(row), f"{_short(row['wall_ms'])} (CPU {_short(row['cpu_ms'])})")
            moved = (row["bytes_up"] + row["bytes_down"]) / 1e3
            keys = f" + keys {_size(row['key_bytes'])}" if row["key_bytes"] else ""
            _bar(sizes, place, moved, look(row), f"{moved:.0f}{keys}" if moved else "none")
        names = [f"{name + ', ' if several else ''}{row['head']}, {row['path']}" for name, row in rows]
        accuracies.set_yticks(list(at), names)
        accuracies.set_ylim(len(rows) - 0.4, -0.6)
        counts = sorted({int(row["images"]) for _, row in rows})
        accuracies.set_xlabel(f"accuracy on {' or '.join(map(str, counts))} images,\n95 % (Wilson)")
        times.set_xscale("log")
        times.set_xlabel("wall ms an image, features to scores\n(logarithmic; in brackets CPU)")
        times.set_xlim(min(row["wall_ms"] for _, row in rows) / 3, max(row["wall_ms"] for _, row in rows) * 6000)
        sizes.set_xlabel("KB an image, up and down;\nkeys once")
        sizes.set_xlim(0, 2.1 * max((row["bytes_up"] + row["bytes_down"]) / 1e3 for _, row in rows))

    return draw_picture(
        draw,
        (9.4, 1.2 + 0.32 * len(rows)),
        "For each head and path: accuracy with its interval, milliseconds an image, and kilobytes an image with keys",
    )


def compute_wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` (Wilson 1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - reach, middle + reach


def _bar(axis: Any, place: int, value: float, style: Mapping[str, Any], label: str) -> None:
    axis.barh(place, value, 0.7, **style)
    axis.annotate(label, (value, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{math.ceil(count / 1e3)} KB"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"
