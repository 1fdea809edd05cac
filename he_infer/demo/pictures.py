"""The report's pictures, drawn with matplotlib as PNG bytes. Colour-blind readers can tell the colours apart."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from he_infer.demo.picture_level import PictureResult

# Okabe and Ito's palette (2008).
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#555555"
STYLE: Any = {"font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False}


def to_png(figure: Figure) -> bytes:
    """Encode a figure as PNG. Equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def displayed(image: NDArray[Any]) -> NDArray[Any]:
    """Scale an image (H, W) or (H, W, C) of any type to [0, 1] for display, between its 0.5 and 99.5 percentiles."""
    values = image.astype(np.float64)
    low, high = np.percentile(values, [0.5, 99.5])
    return np.asarray(np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0))


def draw_cipher_image(image: NDArray[Any], cipher_image: NDArray[Any], title: str) -> bytes:
    """Draw an image (H, W) or (H, W, C), its cipher image of the same shape and type, and both histograms."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 6.4), layout="constrained")
        axes = figure.subplots(2, 2, height_ratios=[1.5, 1.0])
        panels = ((image, f"{title}", BLUE), (cipher_image, "its cipher image", VERMILION))
        for column, (pixels, name, colour) in enumerate(panels):
            shown = axes[0, column]
            # The cipher image is shown over its type's whole range, so that any structure left would be seen.
            if column:
                info = np.iinfo(pixels.dtype)
                grey = (pixels.astype(np.float64) - info.min) / (info.max - info.min)
            else:
                grey = displayed(pixels)
            shown.imshow(grey, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            shown.set_title(name)
            shown.set_axis_off()
            info = np.iinfo(pixels.dtype)
            counts, edges = np.histogram(pixels, bins=256, range=(info.min, info.max + 1))
            bars = axes[1, column]
            bars.fill_between(edges[:-1], counts, step="post", color=colour, linewidth=0)
            bars.set_ylim(bottom=0)
            bars.locator_params(axis="x", nbins=5)
            bars.set_xlabel(f"pixel value ({pixels.dtype})")
            bars.set_ylabel("pixels")
        return to_png(figure)


def draw_confusion_matrices(
    clear: NDArray[np.int64], encrypted: NDArray[np.int64], classes: Sequence[str], top: int = 12
) -> bytes:
    """Draw both confusion matrices side by side; (C, C) counts, rows are the true classes.

    With more than `top` classes the cells carry no numbers, since they could not be read.
    """
    size = 3.0 + 0.32 * min(len(classes), 24)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * size, size), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, counts, name in zip(axes, (clear, encrypted), ("in clear", "encrypted"), strict=True):
            share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axis.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
            axis.set_title(name)
            axis.set_xlabel("predicted")
            axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
            axis.set_yticks(range(len(classes)), classes)
            for spine in axis.spines.values():
                spine.set_visible(False)
            if len(classes) <= top:
                for (row, column), count in np.ndenumerate(counts):
                    dark = share[row, column] > 0.5
                    axis.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
        axes[0].set_ylabel("true")
        return to_png(figure)


def draw_picture_results(
    images: NDArray[Any], results: Sequence[PictureResult], classes: Sequence[str], columns: int = 6
) -> bytes:
    """Draw one patch (H, W) of each picture with the class by summed scores; a wrong one names the true class too."""
    rows = -(-len(results) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 1.95 * rows), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axis in axes:
            axis.set(xticks=[], yticks=[], frame_on=False)
        for axis, result in zip(axes, results, strict=False):
            axis.imshow(displayed(images[result.example]), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            right = result.encrypted == result.truth
            title = classes[result.encrypted] if right else f"{classes[result.encrypted]}\n(is {classes[result.truth]})"
            axis.set_title(f"{'✓' if right else '✗'} {title}", fontsize=8, color="black" if right else VERMILION)
            patches = f"{result.patches} patch{'es' if result.patches > 1 else ''}"
            # A label and not a text: the layout keeps room for it above the next row's title.
            axis.set_xlabel(patches, fontsize=7, color=GREY)
        return to_png(figure)
