"""Square fields of an image at several magnifications, without those that show only background."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.images.preprocessing import Preprocessing

_CONTRAST = 0.04
"""Least standard deviation of a field, in display units: below it there is only background."""
_BACKGROUND = 0.75
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


def fields(image: NDArray[np.float32], box: Box, *, sides: Sequence[int], size: int) -> list[NDArray[np.uint16]]:
    """The informative square fields of a region, at several magnifications, each resampled to one size.

    Fields of one magnification overlap by half; they are spread evenly, so that the region is covered to its edges.

    Args:
        image: (H, W) display values in [0, 1].
        box: the region that fields must lie in.
        sides: the fields' sides in pixels of the image; those that do not fit into the region are left out.
        size: side in pixels of the fields returned.

    Returns:
        Arrays (size, size), uint16 from 0 (black) to 65535 (white), in reading order for each side.
    """
    plain = Preprocessing.plain(size, 1)
    found = []
    for side in sides:
        for top in _starts(box.top, box.height, side):
            for left in _starts(box.left, box.width, side):
                piece = image[top : top + side, left : left + side]
                if _informative(piece):
                    sized = plain.apply(piece[None])[0, 0]
                    found.append(np.rint(np.clip(sized, 0, 1) * np.float32(65535)).astype(np.uint16))
    return found


def _starts(start: int, extent: int, side: int) -> list[int]:
    if side > extent:
        return []
    count = 1 + round(2 * (extent - side) / side)
    return (
        sorted({start + round(at) for at in np.linspace(0, extent - side, count)})
        if count > 1
        else [start + (extent - side) // 2]
    )


def _informative(piece: NDArray[np.float32]) -> bool:
    if float(piece.std()) < _CONTRAST:
        return False
    counts = np.bincount((piece * 255).astype(np.uint8).ravel(), minlength=256)
    return bool(counts.max() <= _BACKGROUND * piece.size)
