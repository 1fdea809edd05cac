"""Layout of an image's words in the grid that the cipher works on.

    (n,)          a row of samples
    (H, W)        rows and columns
    (H, W, C)     C samples a pixel, interleaved
    (F, H, W)     F frames, or the planes of a planar colour image
    (F, H, W, C)  frames of interleaved pixels

An image is stacked into one grid of rows x columns words: frames below each other, the samples of a pixel side by side.
A grid with a side under `LEAST_SIDE` words is folded towards a square first, so that it has tiles; what does not fill
the folded grid's last row is the remainder, which the confusion leaves where it is and the diffusion alters with all
the rest.
"""

import math
from dataclasses import dataclass

from cipher.errors import UnsupportedImage

LEAST_SIDE = 32
"""Least side of a grid that is not folded."""
LEAST_BYTES = 16
"""Bytes of the diffusion's head, hence of the smallest image. The container pads smaller ones."""
MOST_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shape of a grid of words."""

    rows: int
    columns: int
    remainder: int
    """Words after the last full row, fewer than `columns`."""
    bits: int
    """8 or 16, the size of a word."""

    @property
    def block(self) -> int:
        """Words in the grid proper, without the remainder."""
        return self.rows * self.columns

    @property
    def words(self) -> int:
        """All words."""
        return self.block + self.remainder

    @property
    def nbytes(self) -> int:
        """Bytes of all words."""
        return self.words * self.bits // 8

    def label(self) -> bytes:
        """The shape as text: part of every key derivation, which binds the keys to it."""
        return f"{self.rows}x{self.columns}+{self.remainder}w{self.bits}".encode()


def grid_of(shape: tuple[int, ...], itemsize: int) -> Geometry:
    """The grid of an image of `shape` with samples of `itemsize` bytes.

    Raises:
        UnsupportedImage: fewer than 16 bytes, or not one to four dimensions.
    """
    if not 1 <= len(shape) <= MOST_DIMENSIONS or 0 in shape:
        raise UnsupportedImage(f"An image has 1 to 4 dimensions, none of them empty; this one has the shape {shape}.")
    if math.prod(shape) * itemsize < LEAST_BYTES:
        raise UnsupportedImage(
            f"The inner cipher takes images of {LEAST_BYTES} bytes or more, and this one has "
            f"{math.prod(shape) * itemsize}. Seal it in a container, which pads it."
        )
    frames, height, width, samples = sides(shape)
    bits = 8 if itemsize == 1 else 16
    rows, columns = frames * height, width * samples * max(1, itemsize // 2)
    if min(rows, columns) >= LEAST_SIDE:
        return Geometry(rows, columns, 0, bits)
    total = rows * columns
    columns = math.isqrt(total)
    return Geometry(total // columns, columns, total % columns, bits)


def sides(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Frames, height, width, samples. Three dimensions with a last one up to 4 are colour, else frames."""
    if len(shape) == 1:
        return 1, 1, shape[0], 1
    if len(shape) == 2:
        return 1, shape[0], shape[1], 1
    if len(shape) == 3:
        return (1, *shape) if shape[2] <= 4 else (*shape, 1)
    return shape[0], shape[1], shape[2], shape[3]
