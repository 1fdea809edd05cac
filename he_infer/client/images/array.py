"""An image that is in memory already, for a caller that read or cut it out itself."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.client.images.reader import ReadImage


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """An image as an array, classified like a file; its name stands where a file's path would."""

    name: str
    pixels: NDArray[Any] = field(repr=False)
    """(H, W) for grey, (H, W, 3) for colour: uint8, uint16, or float from 0 (black) to 1 (white)."""

    def read(self) -> ReadImage:
        """The image in the form of a decoded file, or a refusal with the reason."""
        from models.errors import ModelsError
        from models.images.values import check_display, to_display

        path, pixels = Path(self.name), np.asarray(self.pixels)
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or not pixels.size:
            return ReadImage(
                path, refusal=f"{self.name} is an array of shape {pixels.shape}; expected (H, W) or (H, W, 3)."
            )
        try:
            check_display(pixels)
            return ReadImage(path, 0, to_display(pixels))
        except ModelsError as error:
            return ReadImage(path, refusal=f"{self.name}: {' '.join(str(error).split())}")
