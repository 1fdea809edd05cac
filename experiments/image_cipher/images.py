"""The images that the cipher's evaluation measures: DICOM, PNG and NumPy files, and pydicom's own by name."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image as Pillow
from PIL import UnidentifiedImageError
from pydicom.data import get_testdata_file
from pydicom.errors import InvalidDicomError

from cipher.analysis.pixels import Image, planes, words
from cipher.errors import UnsupportedImage

LEAST_SIDE = 32


@dataclass(frozen=True)
class NamedImage:
    """An image and its name in the report."""

    name: str
    pixels: Image

    @property
    def described(self) -> str:
        """Name, size and type in one line."""
        size = " x ".join(str(side) for side in self.pixels.shape)
        return f"{self.name}, {size}, {self.pixels.dtype}"


def load_image(name: str) -> NamedImage:
    """Read the stored pixels of a file, without any rescaling.

    A name that is no file is looked up among the files that pydicom and pydicom-data carry, so that `CT_small.dcm` and
    `RG3_UNCR.dcm` mean the same everywhere.

    Raises:
        UnsupportedImage: not an image, no pixels, or pixels that the evaluation does not take.
        FileNotFoundError: no such file.
    """
    path = Path(name)
    if not path.exists():
        found = get_testdata_file(path.name, download=False) if path.name == name else None
        if found is None:
            raise FileNotFoundError(2, "No such image, neither as a file nor among pydicom's", name)
        path = Path(found)
    image = _read(path)
    if min(planes(image).shape[1:]) < LEAST_SIDE:
        raise UnsupportedImage(
            f"{path.name} is {' x '.join(str(side) for side in image.shape)}; "
            f"the report's measures and pictures need {LEAST_SIDE} pixels or more to a side"
        )
    if int(words(image).min()) == int(words(image).max()):
        raise UnsupportedImage(f"{path.name} is of one single value; take an image that shows something")
    return NamedImage(path.name, image)


def _read(path: Path) -> Image:
    match path.suffix.lower():
        case ".npy":
            try:
                return np.asarray(np.load(path, allow_pickle=False))
            except ValueError as error:
                raise UnsupportedImage(f"{path.name} is not a NumPy array file") from error
        case ".png" | ".tif" | ".tiff" | ".bmp" | ".pgm":
            try:
                with Pillow.open(path) as picture:
                    return np.asarray(picture)
            except UnidentifiedImageError as error:
                raise UnsupportedImage(f"{path.name} is not a picture that can be read") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on a file's odd attributes, which the pixels do not depend on
            return np.asarray(pydicom.dcmread(path).pixel_array)
    except InvalidDicomError as error:
        raise UnsupportedImage(f"{path.name} is neither DICOM, PNG, TIFF, BMP, PGM nor a NumPy array file") from error
    except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UnsupportedImage(f"{path.name} has no pixels that can be read: {error}") from error
