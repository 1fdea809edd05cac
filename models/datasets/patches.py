"""Square cut-outs of an image, pixel for pixel, and which of them hold anything."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CONTRAST = 0.04
"""Least standard deviation of a cut-out, in display units: below it there is only background."""
_BACKGROUND = 0.6
"""Largest share of pixels that may have one and the same grey (air, collimator, the screen around a picture)."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels: rows `top` to `bottom`, columns `left` to `right`, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left


def split_box(box: Box, share: float) -> tuple[Box, Box]:
    """Cut a box across its longer side: the first part, and the last `share` of it."""
    if box.width >= box.height:
        cut = box.right - round(box.width * share)
        return Box(box.top, box.left, box.bottom, cut), Box(box.top, cut, box.bottom, box.right)
    cut = box.bottom - round(box.height * share)
    return Box(box.top, box.left, cut, box.right), Box(cut, box.left, box.bottom, box.right)


def cut_outs(image: NDArray[np.float32], box: Box, *, size: int) -> list[NDArray[np.uint16]]:
    """The informative cut-outs of a region on a grid of half their side, in reading order.

    Nothing is resampled, so that noise and sharpness stay those of the scanner.

    Args:
        image: (H, W) display values in [0, 1].
        box: the region that cut-outs must lie in.
        size: their side in pixels.

    Returns:
        Arrays (size, size), uint16 from 0 (black) to 65535 (white).
    """
    step = size // 2
    pieces = (
        image[top : top + size, left : left + size]
        for top in range(box.top, box.bottom - size + 1, step)
        for left in range(box.left, box.right - size + 1, step)
    )
    return [np.rint(piece * np.float32(65535)).astype(np.uint16) for piece in pieces if _informative(piece)]


def _informative(piece: NDArray[np.float32]) -> bool:
    if float(piece.std()) < _CONTRAST:
        return False
    counts = np.bincount((piece * 255).astype(np.uint8).ravel(), minlength=256)
    return bool(counts.max() <= _BACKGROUND * piece.size)
