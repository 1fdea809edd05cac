"""Square cut-outs of an image at several scales, and which of them hold anything."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Grey = NDArray[np.float32]

_SCALES = (1, 2, 3, 4, 6, 8, 12)
"""A cut-out's side is the region's short side divided by one of these."""
_STRIDE = 2
"""Neighbouring cut-outs of one scale overlap by 1 - 1/_STRIDE of their side."""
_CONTRAST = 0.04
"""Least standard deviation of a cut-out, in display units: below it there is only background."""
_BACKGROUND = 0.6
"""Largest share of pixels that may have one and the same value (air, collimator, the screen around a picture)."""


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


def cut_outs(image: Grey, box: Box, *, size: int, smallest: int) -> list[NDArray[np.uint8]]:
    """All informative square cut-outs of a region, resized to `size` x `size`, uint8; the largest first.

    Args:
        image: (H, W) display values in [0, 1].
        box: the region that cut-outs must lie in.
        size: side of the result in pixels.
        smallest: smallest side of a cut-out in pixels of the image.
    """
    return [_resized(piece, size) for piece in _pieces(image, box, smallest) if _informative(piece)]


def _pieces(image: Grey, box: Box, smallest: int) -> Iterator[Grey]:
    short = min(box.height, box.width)
    for scale in _SCALES:
        side = short // scale
        if side < smallest:
            return
        step = side if scale == 1 else max(side // _STRIDE, 1)
        for top in _starts(box.top, box.bottom, side, step):
            for left in _starts(box.left, box.right, side, step):
                yield image[top : top + side, left : left + side]


def _starts(low: int, high: int, side: int, step: int) -> list[int]:
    """Where cut-outs of a side begin: a grid, centred in what is left over."""
    count = (high - low - side) // step + 1
    slack = (high - low - side) - (count - 1) * step
    return [low + slack // 2 + step * n for n in range(count)]


def _informative(piece: Grey) -> bool:
    if float(piece.std()) < _CONTRAST:
        return False
    counts = np.bincount((piece * 255).astype(np.uint8).ravel(), minlength=256)
    return bool(counts.max() <= _BACKGROUND * piece.size)


def _resized(piece: Grey, size: int) -> NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(piece, dtype=np.float32))
    resized = np.asarray(
        image.resize((size, size), Image.Resampling.BOX if piece.shape[0] >= 2 * size else Image.Resampling.BILINEAR)
    )
    return np.rint(np.clip(resized, 0, 1) * 255).astype(np.uint8)
