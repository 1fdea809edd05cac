"""A region of an image: boxes and a mask, its bounding box, and the pixels that are blanked in it."""

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cipher.container.beginning import reading
from cipher.errors import BadSpan, UnsupportedImage


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, said: str) -> "Box":
        """A box from 'x,y,width,height'.

        Raises:
            BadSpan: not four numbers, or an empty box.
        """
        if not re.fullmatch("-?[0-9]{1,9}(,-?[0-9]{1,9}){3}", said):
            raise BadSpan(f"A region is written x,y,width,height in pixels, such as 0,0,200,40; got {said[:60]!r}.")
        box = cls(*map(int, said.split(",")))
        if box.x < 0 or box.y < 0 or box.width < 1 or box.height < 1:
            raise BadSpan(f"The region {said} is empty or begins outside the image.")
        return box

    def index(self, interleaved: bool) -> tuple[Any, ...]:
        """Index of the box in an array of rows, columns and, if interleaved, samples."""
        sides = slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)
        return (..., *sides, slice(None)) if interleaved else (..., *sides)

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"


@dataclass(frozen=True, slots=True)
class Region:
    """Pixels to seal: boxes, and a mask for images of its size."""

    boxes: tuple[Box, ...] = ()
    mask: NDArray[np.bool_] | None = None
    """(rows, columns)"""

    def digest(self) -> str:
        """Text that tells two regions apart."""
        mask = b"" if self.mask is None else str(self.mask.shape).encode() + np.packbits(self.mask).tobytes()
        return " ".join(map(str, self.boxes)) + (f" mask {hashlib.sha256(mask).hexdigest()}" if mask else "")

    def cover(self, rows: int, columns: int) -> tuple[Box, NDArray[np.bool_]]:
        """The bounding box in an image of this size, and which of its pixels are blanked.

        Raises:
            BadSpan: a box does not lie in the image, the mask has another size, or no pixel is chosen.
        """
        chosen = np.zeros((rows, columns), np.bool_)
        for box in self.boxes:
            if box.x + box.width > columns or box.y + box.height > rows:
                raise BadSpan(f"The region {box} does not lie in the image of {columns} x {rows} pixels.")
            chosen[box.y : box.y + box.height, box.x : box.x + box.width] = True
        if self.mask is not None:
            if self.mask.shape != (rows, columns):
                height, width = self.mask.shape
                raise BadSpan(f"The mask has {width} x {height} pixels and the image {columns} x {rows}.")
            chosen |= self.mask
        down, across = np.flatnonzero(chosen.any(1)), np.flatnonzero(chosen.any(0))
        if not down.size:
            raise BadSpan("The region holds no pixel: give a box, or a mask that is not black.")
        top, left = int(down[0]), int(across[0])
        box = Box(left, top, int(across[-1]) + 1 - left, int(down[-1]) + 1 - top)
        return box, chosen[top : top + box.height, left : left + box.width]


def load_mask(path: Path) -> NDArray[np.bool_]:
    """A mask from a NumPy file or a picture: pixels other than 0 are sealed.

    Raises:
        UnsupportedImage: not a picture of one value a pixel.
        StorageProblem: it cannot be read.
    """
    with reading(path) as handle:
        data = handle.read()
    try:
        if path.suffix.lower() == ".npy":
            mask = npy.read_array(io.BytesIO(data), allow_pickle=False)
        else:
            from PIL import Image

            with Image.open(io.BytesIO(data)) as picture:
                mask = np.asarray(picture.convert("L"))
    except ModuleNotFoundError:
        raise UnsupportedImage("A mask as a picture needs the package 'pillow'; give it as a NumPy file.") from None
    except Exception as error:  # decoders of pictures fail in whatever way the bytes lead them to
        raise UnsupportedImage(f"{path.name} is no mask: neither a NumPy file nor a picture.") from error
    if mask.ndim != 2:
        raise UnsupportedImage(f"{path.name} is no mask: it has {mask.ndim} axes, and a mask rows and columns.")
    if mask.dtype.kind not in "buif":
        raise UnsupportedImage(f"{path.name} is no mask: its values are of type {mask.dtype}, and no numbers.")
    return np.asarray(mask != 0)
