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
    for name, array in splits.items():
        bad = int(np.count_nonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))) if kind.kind == "f" else 0
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


def to_canonical(array: NDArray[Any], values: ValueRange) -> NDArray[Any]:
    """Pixels as uint8, uint16, or float32 from 0 (black) to 1 (white); the values stay what they mean."""
    if values.type == "bool":
        return array.astype(np.uint8) * np.uint8(255)
    if (values.black, values.white) == (0, 255) and array.dtype.kind in "iu":
        return array.astype(np.uint8)
    if array.dtype.kind in "iu":
        return array.astype(np.uint16)
    scaled = (array.astype(np.float32) - np.float32(values.black)) / np.float32(values.white - values.black)
    return np.asarray(np.clip(scaled, 0, 1), dtype=np.float32)


def to_display(array: NDArray[Any]) -> NDArray[np.float32]:
    """Display units, float32 from 0 (black) to 1 (white), of uint8, uint16, or float in display units already.

    Raises:
        InputError: another type, or values that the type's range cannot explain.
    """
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    if array.dtype == np.uint16:
        if array.size and 1 < int(array.max()) <= 255:
            raise InputError(
                f"uint16 pixels are read as 0 (black) to 65535 (white); these reach {int(array.max())} only, as 8-bit "
                "pixels do. Give them as uint8."
            )
        return array.astype(np.float32) / np.float32(65535)
    if array.dtype.kind != "f":
        raise InputError(f"Images are of type {array.dtype}. Expected uint8, uint16, or float from 0 to 1.")
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError("An image holds pixels that are not numbers (NaN or infinite). Replace them first.")
    if values.size and (values.min() < -_SLACK or values.max() > 1 + _SLACK):
        raise InputError(
            f"Float pixels must lie in 0 (black) to 1 (white); these run from {values.min():g} to {values.max():g}. "
            "Divide by the value that means white, or give uint8 or uint16."
        )
    return np.clip(values, 0, 1)


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
    if kind.kind not in "iufb":
        raise InputError(f"Pixels are of type {kind}. Expected whole numbers, or fractions.")
    raise InputError(
        f"Pixels of type {kind} run from {low:g} to {high:g}, and nothing says which value is black and which white. "
        "Expected 0..255 or 0..65535, or as fractions 0..1 or -1..1: scale them (Hounsfield units by a window)."
    )
