"""Value range of pixel arrays: one rule for the numbers that mean black and white in an array.

| type | values | read as |
| --- | --- | --- |
| bool | | 0, 1 |
| uint8 | | 0..255 |
| other integers | 0..255 | 0..255 |
| other integers | beyond 255, to 65535 | 0..65535 |
| float | 0..1 | 0..1 |
| float | 0..255, beyond 1 | 0..255 |
| float | -1..1, some below 0 | -1..1 |

Anything else is refused. The rule looks at a whole data set, never at one image: a dark image must stay dark.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.images.scratch import iterate_blocks, reserve_array

_SLACK = 1e-3
"""Largest excess of floats beyond 0..1, as resampling causes it; they are clipped."""


@dataclass(frozen=True)
class ValueRange:
    """The numbers that mean black and white in an array of one type."""

    type: str
    """numpy's name of the array's type."""
    black: float
    white: float
    reached: tuple[float, float]
    """Smallest and largest value that occurred when the range was chosen."""

    def __str__(self) -> str:
        low, high = self.reached
        return f"{self.type} from {low:g} to {high:g}, read as {self.black:g} (black) to {self.white:g} (white)"

    def to_json(self) -> dict[str, Any]:
        """The form that the bundle carries."""
        return {"type": self.type, "black": self.black, "white": self.white, "reached": list(self.reached)}


def choose_range(splits: Mapping[str, NDArray[Any]]) -> ValueRange:
    """The range of the images (N, ...) of a data set's splits together, by the rule above.

    Raises:
        InputError: types that differ, values that no row of the rule has, or pixels that are not finite.
    """
    arrays = list(splits.values())
    kinds = {array.dtype for array in arrays}
    if len(kinds) != 1:
        raise InputError(f"Pixels come as {', '.join(sorted(map(str, kinds)))}. Save all of them as one type.")
    (kind,) = kinds
    if kind.kind not in "iufb":
        raise InputError(f"Pixels are of type {kind}. Expected whole numbers, or fractions.")
    for name, array in splits.items():
        bad = count_not_finite(array)
        if bad:
            raise InputError(
                f"{bad} of the {len(array)} images in the {name} split hold pixels that are not numbers (NaN or "
                "infinite). Replace these pixels or leave the images out."
            )
    filled = [array for array in arrays if array.size]
    low = min((float(array.min()) for array in filled), default=0.0)
    high = max((float(array.max()) for array in filled), default=0.0)
    black, white = _limits(kind, low, high)
    if kind.kind == "f" and white > 1:
        # A part from 0 to 1 beside one from 0 to 255 would come out black.
        small = [array for array in filled if 0 < float(array.max()) <= 1]
        if small:
            raise InputError(
                f"Some pixels run from 0 to 1 and others to {high:g}: the splits differ in range. Scale them alike."
            )
    return ValueRange(str(kind), black, white, (low, high))


def count_not_finite(images: NDArray[Any]) -> int:
    """Count the images (N, ...) that hold a pixel that is NaN or infinite; 0 for whole numbers."""
    if images.dtype.kind != "f":
        return 0
    return sum(
        int(np.count_nonzero(~np.isfinite(images[rows]).reshape(rows.stop - rows.start, -1).all(axis=1)))
        for rows in iterate_blocks(images)
    )


def to_canonical(images: NDArray[Any], values: ValueRange) -> NDArray[Any]:
    """Images (N, ...) as uint8, uint16, or float32 from 0 (black) to 1 (white); the values stay what they mean.

    Images that are so already are returned as they are. Others are converted block by block into a new array, which
    lies in a temporary file if it is large.
    """
    kind = _canonical(images[:0], values).dtype
    if images.dtype == kind and kind.kind == "u":
        return images
    converted = reserve_array(images.shape, kind)
    for rows in iterate_blocks(images):
        converted[rows] = _canonical(images[rows], values)
    return converted


def _canonical(array: NDArray[Any], values: ValueRange) -> NDArray[Any]:
    if values.type == "bool":
        return array.astype(np.uint8) * np.uint8(255)
    if (values.black, values.white) == (0, 255) and array.dtype.kind in "iu":
        return array.astype(np.uint8)
    if array.dtype.kind in "iu":
        return array.astype(np.uint16)
    scaled = (array.astype(np.float32) - np.float32(values.black)) / np.float32(values.white - values.black)
    return np.asarray(np.clip(scaled, 0, 1), dtype=np.float32)


def check_display(images: NDArray[Any]) -> None:
    """Refuse pixels that `to_display` cannot turn into display units. Those of several images are judged together.

    Raises:
        InputError: a type other than uint8, uint16 and float, or values that the type's range cannot explain.
    """
    if images.dtype == np.uint8:
        return
    if images.dtype == np.uint16:
        highest = int(images.max(initial=0))
        if 1 < highest <= 255:
            raise InputError(
                f"uint16 pixels are read as 0 (black) to 65535 (white); these reach {highest} only, as 8-bit pixels "
                "do. Give them as uint8."
            )
        return
    if images.dtype.kind != "f":
        raise InputError(f"Images are of type {images.dtype}. Expected uint8, uint16, or float from 0 to 1.")
    if count_not_finite(images):
        raise InputError("An image holds pixels that are not numbers (NaN or infinite). Replace them first.")
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    if low < -_SLACK or high > 1 + _SLACK:
        raise InputError(
            f"Float pixels must lie in 0 (black) to 1 (white); these run from {low:g} to {high:g}. "
            "Divide by the value that means white, or give uint8 or uint16."
        )


def to_display(images: NDArray[Any]) -> NDArray[np.float32]:
    """Display units, float32 from 0 (black) to 1 (white), of images that `check_display` accepts."""
    if images.dtype.kind == "u":
        return images.astype(np.float32) / np.float32(np.iinfo(images.dtype).max)
    return np.clip(images.astype(np.float32), 0, 1)


def _limits(kind: np.dtype[Any], low: float, high: float) -> tuple[float, float]:
    if kind.kind == "b":
        return 0.0, 1.0
    if kind == np.uint8:
        return 0.0, 255.0
    if kind.kind in "iu" and low >= 0 and high <= 65535:
        return 0.0, 255.0 if high <= 255 else 65535.0
    if kind.kind == "f":
        if low >= 0 and high <= 1 + _SLACK:
            return 0.0, 1.0
        if low >= 0 and high <= 255.5:
            return 0.0, 255.0
        if low >= -1 - _SLACK and high <= 1 + _SLACK:
            return -1.0, 1.0
    raise InputError(
        f"Pixels of type {kind} run from {low:g} to {high:g}, and nothing says which value is black and which white. "
        "Expected 0..255 or 0..65535, or as fractions 0..1 or -1..1: scale them (Hounsfield units by a window)."
    )
