"""Style, palette, marks and hatches of every chart; series are told apart without colour too."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from he_infer.files import write_bytes

# Okabe and Ito's colours (2008), which readers with any kind of colour vision tell apart; yellow is lost in print.
BLUE, VERMILION, GREEN, ORANGE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#555555"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, SKY, "#CC79A7", GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++", "--")
"""Series number i takes colour, marker and hatch number i, so that it is told apart in grey too."""

_STYLE: Any = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "he-infer",
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure."""

    media_type: str
    data: bytes
    alternative: str
    """Alternative text for readers who cannot see the figure."""


def draw_picture(
    draw: Callable[[Figure], None], size: tuple[float, float], alternative: str, *, kind: str = "png", dpi: int = 120
) -> Picture:
    """Draw a picture; the same drawing gives the same bytes.

    Args:
        draw: draws into an empty figure with a constrained layout.
        size: width and height in inches.
        alternative: alternative text for readers who cannot see the figure.
        kind: `png` or `svg`.
        dpi: pixels an inch, of a PNG.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        # Cut to what is drawn, so that no title beyond the edge of a low figure is lost.
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata, bbox_inches="tight", pad_inches=0.05)
    return Picture("image/svg+xml" if kind == "svg" else "image/png", buffer.getvalue(), alternative)


def save_picture(path: Path, drawn: Picture) -> None:
    """Write a picture whole or not at all.

    Raises:
        OSError: the folder is missing or not writable.
    """
    write_bytes(path, drawn.data)


def show_image(
    axis: Axes, image: NDArray[Any], title: str = "", *, limits: tuple[float, float] | None = None, size: float = 8
) -> None:
    """Show (H, W) or (H, W, 3) values, between `limits` or else their own least and largest, without axes."""
    low, high = limits or (float(np.min(image)), float(np.max(image)))
    if image.ndim == 3:
        axis.imshow(np.clip((image - low) / max(high - low, 1e-12), 0, 1), interpolation="nearest")
    else:
        axis.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest")
    axis.set_title(title, fontsize=size)
    axis.set_axis_off()
