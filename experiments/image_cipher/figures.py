"""The figures of the cipher's evaluation, drawn with matplotlib; hatching and place tell apart, not colour alone."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from cipher.analysis import correlation
from cipher.analysis.line import Line
from cipher.analysis.pixels import Image, highest, octets, planes, words
from cipher.analysis.sp800_22 import battery
from cipher.analysis.suite import Evaluation
from experiments.image_cipher.study import AttackResult, NoiseResult, Study
from experiments.present.drawing import BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, Picture, draw_picture

_SHOWN_SIDE = 512


def draw_histograms(study: Study) -> Picture:
    """The paper's Fig. 3: plain, cipher and decrypted image, and the histograms of the first two."""
    plain, secret = words(study.image.pixels), words(study.cipher_image)

    def draw(figure: Figure) -> None:
        pictures, charts = figure.subplots(2, 3, height_ratios=[1.5, 1.0])
        _show(pictures[0], plain, "plain image", stretch=True)
        _show(pictures[1], secret, "cipher image")
        _show(pictures[2], words(study.restored), "decrypted", stretch=True)
        low, high = int(plain.min()), int(plain.max())
        counts, edges = np.histogram(plain, bins=min(256, high - low + 1), range=(low, high + 1))
        charts[0].stairs(counts, edges, fill=True, color=BLUE)
        charts[0].set_xlabel(f"pixel value, {low} to {high}")
        lopsided = counts.max() > 20 * max(float(np.percentile(counts, 95)), 1.0)
        charts[0].set_yscale("log" if lopsided else "linear")
        charts[0].set_ylabel("pixels (logarithmic)" if lopsided else "pixels")
        parts = octets(study.cipher_image)
        _flat_histogram(charts[1], list(parts.values())[-1], f"cipher image, {list(parts)[-1]}")
        if len(parts) > 1:
            _flat_histogram(charts[2], parts["low byte"], "cipher image, low byte")
        else:
            charts[2].set_axis_off()

    return draw_picture(
        draw,
        (8.4, 5.4),
        "Plain, cipher and decrypted image, and the flat histogram of the second",
        kind="png",
        dpi=140,
    )


def draw_correlations(study: Study) -> Picture:
    """The paper's Fig. 4: |r| of five methods in three directions, with the bound for our number of pixels."""
    rows = [
        *((name, values) for name, values in correlation.PUBLISHED),
        ("this project's inner cipher", study.correlation),
    ]
    looks = ((GREY, "////"), (SKY, "...."), (ORANGE, "xxxx"), (VERMILION, "\\\\\\\\"), (BLUE, ""))

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        width = 0.15
        for index, ((name, values), (colour, hatch)) in enumerate(zip(rows, looks, strict=True)):
            at = np.arange(3) + (index - 2) * width
            heights = np.maximum(np.abs(values), 2e-5)
            axis.bar(at, heights, width * 0.92, color=colour, hatch=hatch, edgecolor="white", label=name)
            for x, value in zip(at, values, strict=True):
                axis.annotate(
                    f"{value:.3g}",
                    (x, max(abs(value), 2e-5)),
                    ha="center",
                    va="bottom",
                    fontsize=8,
                    rotation=90,
                    xytext=(0, 2),
                    textcoords="offset points",
                    zorder=5,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
                )
        for place, bound in enumerate(study.bounds):
            label = "3.29 / sqrt(pairs) for our image" if place == 0 else "_again"
            axis.hlines(bound, place - 0.46, place + 0.46, color="black", linestyle="--", linewidth=1.2, label=label)
        axis.set_yscale("log")
        axis.set_ylim(1e-5, 0.6)
        axis.set_xticks(range(3), correlation.DIRECTIONS)
        axis.set_ylabel("|r| of adjacent pixels")
        axis.legend(fontsize=9, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)

    return draw_picture(
        draw,
        (9.4, 4.6),
        "Bars of the absolute correlation of five methods, and the significance bound",
        kind="svg",
        dpi=140,
    )


def draw_scatter(study: Study) -> Picture:
    """Horizontally adjacent pixels against each other, plain and encrypted."""

    def draw(figure: Figure) -> None:
        for axis, image, name in zip(
            figure.subplots(1, 2),
            (study.image.pixels, study.cipher_image),
            ("plain image", "cipher image"),
            strict=True,
        ):
            layer = planes(words(image))[0]
            left, right = layer[:, :-1].ravel(), layer[:, 1:].ravel()
            chosen = np.linspace(0, left.size - 1, min(left.size, 4000)).astype(np.int64)
            axis.plot(left[chosen], right[chosen], ".", markersize=1.4, color=BLUE, rasterized=True)
            axis.set_title(f"{name}: r = {correlation.pearson(left, right):.4f}")
            axis.set_xlabel("pixel")
            axis.set_ylabel("its right neighbour")
            axis.set_aspect("equal")

    return draw_picture(
        draw,
        (7.0, 3.5),
        "Scatter of adjacent pixels: a line for the plain image, a filled square after",
        kind="png",
        dpi=140,
    )


def draw_differential(study: Study) -> Picture:
    """NPCR and UACI over the keys, with expected distribution and critical values; the toy's beside ours."""
    names = [
        line.name for line in study.ours[0].lines if line.group == _PLAINTEXT and line.name.startswith(("NPCR", "UACI"))
    ]
    shown = [name for name in names if "whole" not in name] or names

    def draw(figure: Figure) -> None:
        axes = np.atleast_2d(figure.subplots(2, len(shown) // 2, squeeze=False))
        for axis, name in zip(axes.ravel(), shown, strict=True):
            _distribution(axis, _line(study.ours[0], name), name)
            for toy in (_find(evaluation, name) for evaluation in study.negative[:1]):
                if toy is not None and toy.values:
                    _marks(axis, np.array(toy.values) * 100)
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8, frameon=False
        )

    return draw_picture(
        draw,
        (9.4, 5.6),
        "Histograms of NPCR and UACI over the keys, with their critical values",
        kind="svg",
        dpi=140,
    )


def draw_attacks(attacks: Sequence[AttackResult], victim: Image) -> Picture:
    """The attack's pictures: the toy's victim comes back whole, ours does not; and the toy's key stream repeats."""

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(len(attacks) + 1, 3, height_ratios=[1.0] * len(attacks) + [0.6])
        for place, found in enumerate(attacks):
            row = [figure.add_subplot(grid[place, column]) for column in range(3)]
            _show(row[0], words(victim), "the victim's image", stretch=True)
            _show(row[1], words(found.cipher_image), f"encrypted by the\n{found.subject}")
            known = found.right_bytes == 1
            label = "all of it" if known else f"{found.right_bytes:.2%} of the bytes foretold, as by chance"
            _show(row[2], words(found.recovered), f"read after four chosen images:\n{label}", stretch=known)
        axis = figure.add_subplot(grid[-1, :])
        toy = attacks[0]
        tail = toy.stream[toy.stream.size // 2 :][:400]
        axis.plot(tail, color=VERMILION, linewidth=0.8)
        for start in range(0, tail.size, max(toy.period, 1)):
            axis.axvline(start, color="black", linewidth=0.7, linestyle=":")
        axis.set_xlim(0, tail.size)
        axis.set_ylabel("key byte")
        axis.set_xlabel(f"the toy's key stream as the attack reads it: it repeats every {toy.period} bytes (dotted)")

    return draw_picture(
        draw,
        (7.4, 8.0),
        "Victim, cipher image and what the attack reads: everything for the toy, noise for ours",
        kind="png",
        dpi=140,
    )


def draw_noise(cases: Sequence[NoiseResult], original: Image) -> Picture:
    """Damaged cipher images and what decrypting them shows."""
    names = (
        "one cipher pixel changed",
        "salt and pepper, 0.1 %",
        "salt and pepper, 1 %",
        "occlusion, 1/64",
        "occlusion, 1/4",
    )
    shown = [case for case in cases if case.name in names]
    plain = words(original)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, len(shown))
        for (above, below), case in zip(axes.T, shown, strict=True):
            _show(above, words(case.damaged), case.name.replace(", ", ",\n").replace("pixel ", "pixel\n"))
            _show(
                below,
                words(case.restored),
                f"{case.intact_share:.1%} intact",
                limits=(int(plain.min()), int(plain.max())),
            )

    return draw_picture(
        draw,
        (9.0, 4.2),
        "Damaged cipher images above, their decryptions below",
        kind="png",
        dpi=140,
    )


def draw_randomness(evaluations: Sequence[Evaluation]) -> Picture:
    """SP 800-22: share of sequences that pass each test, for each source, with the exact 99.9 % range."""
    looks = ((BLUE, "o"), (GREEN, "s"), (VERMILION, "x"))

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for place, (evaluation, (colour, marker)) in enumerate(zip(evaluations, looks, strict=False)):
            at = [battery.NAMES.index(line.name) + (place - 1) * 0.22 for line in evaluation.lines]
            shares = [line.statistic * 100 for line in evaluation.lines]
            most = max(line.keys for line in evaluation.lines)
            axis.plot(shares, at, marker, color=colour, markersize=5, label=f"{evaluation.subject}, {most} sequences")
        sequences = max(line.keys for line in evaluations[0].lines)
        low = float(stats.binom.ppf(0.0005, sequences, 1 - battery.ALPHA)) / sequences
        axis.axvspan(
            low * 100, 100, color=GREY, alpha=0.15, label=f"99.9 % range of one part over {sequences} sequences"
        )
        axis.axvline(99, color="black", linewidth=0.8, linestyle="--")
        axis.set_yticks(range(len(battery.NAMES)), battery.NAMES)
        axis.invert_yaxis()
        axis.set_xlabel("share of P-values at or above 0.01, in %")
        axis.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False)

    return draw_picture(
        draw,
        (7.6, 4.6),
        "Share of passes in each of the fifteen tests for cipher, positive and negative control",
        kind="svg",
        dpi=140,
    )


_PLAINTEXT = "one plaintext bit changed"


def _distribution(axis: Axes, line: Line, name: str) -> None:
    values = np.array(line.values) * 100
    expected, low, high = (100 * float(v or 0) for v in (line.expected, line.low, line.high))
    deviation = (high - low) / 3.92
    reach = max(4.2 * deviation, float(np.abs(values - expected).max()) * 1.05)
    bins = np.linspace(expected - reach, expected + reach, 41)
    axis.hist(
        values,
        bins=bins.tolist(),
        density=True,
        color=SKY,
        edgecolor="white",
        linewidth=0.4,
        label=f"our cipher, {values.size} keys",
    )
    grid = np.linspace(expected - reach, expected + reach, 300)
    axis.plot(grid, stats.norm.pdf(grid, expected, deviation), color="black", linewidth=1.1, label="ideal cipher")
    for place, limit in enumerate((low, high)):
        label = "critical values, 5 %" if place == 0 else None
        axis.axvline(limit, color=GREY, linestyle="--", linewidth=1.1, label=label)
    axis.set_title(f"{name}: {line.outside} of {line.keys} outside", fontsize=9)
    axis.set_xlabel("%")
    axis.set_yticks([])


def _marks(axis: Axes, values: NDArray[np.float64]) -> None:
    """Mark single values in a strip under the histogram; one mark and a word where they are all the same."""
    top = axis.get_ylim()[1]
    axis.set_ylim(-0.13 * top, top)
    axis.axhline(0, color="black", linewidth=0.7)
    unique = np.unique(values)
    axis.plot(unique, np.full(unique.size, -0.065 * top), "|", color=VERMILION, markersize=9, label="the toy, each key")
    if unique.size == 1:
        axis.annotate(
            f"the toy: {unique[0]:g} %\nfor every key",
            (float(unique[0]), 0.0),
            xytext=(0, 14),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": VERMILION},
        )


def _flat_histogram(axis: Axes, values: NDArray[np.uint8], label: str) -> None:
    counts = np.bincount(values.ravel(), minlength=256)
    expected = values.size / 256
    band = 3.29 * (expected * 255 / 256) ** 0.5
    axis.stairs(counts, np.arange(257), fill=True, color=VERMILION)
    axis.axhline(expected, color="black", linewidth=0.9)
    axis.axhspan(expected - band, expected + band, color="black", alpha=0.15, linewidth=0)
    axis.set_ylim(0, 1.6 * max(expected, float(counts.max()) / 1.5))
    axis.set_xlabel(f"{label}\n(grey: 99.9 % of each bar)")


def _show(
    axis: Axes, image: Image, title: str, *, stretch: bool = False, limits: tuple[int, int] | None = None
) -> None:
    """Show the first plane; unless told otherwise over the type's whole range, so that any structure would be seen."""
    layer = planes(image)[0]
    step = max(1, -(-max(layer.shape) // _SHOWN_SIDE))
    layer = layer[::step, ::step]
    low, high = (float(limit) for limit in limits or (0, highest(image)))
    if stretch:
        low, high = (float(v) for v in np.percentile(layer, [0.5, 99.5]))
    axis.imshow(layer, cmap="gray", vmin=low, vmax=max(high, low + 1), interpolation="nearest")
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()


def _find(evaluation: Evaluation, name: str) -> Line | None:
    return next((line for line in evaluation.lines if line.group == _PLAINTEXT and line.name == name), None)


def _line(evaluation: Evaluation, name: str) -> Line:
    line = _find(evaluation, name)
    if line is None:
        raise KeyError(name)
    return line
