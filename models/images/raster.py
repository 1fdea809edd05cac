"""Display values of PNG, JPEG, BMP and TIFF files, decoded by Pillow: float32 from 0 (black) to 1 (white)."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.errors import DamagedImage, ImageError

if TYPE_CHECKING:
    from PIL import Image as Raster

T = TypeVar("T")
Display = NDArray[np.float32]

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339
"""TIFF tags: PhotometricInterpretation (0: the smallest value is white), BitsPerSample, SampleFormat (2: signed)."""
_SIGNED = 2
_SUBFILE, _SECONDARY = 254, 0b101
"""TIFF tag NewSubfileType, and its bits for a reduced copy of another page and for a transparency mask."""


@contextmanager
def open_raster(path: Path) -> "Iterator[Raster.Image]":
    """Open a file without decoding its pixels.

    Raises:
        DamagedImage: it is cut off, damaged, too large, or of a kind that Pillow does not read.
    """
    from PIL import Image

    # Given a path, Pillow maps uncompressed files into memory, and then scrambles TIFF files whose orientation swaps
    # rows and columns.
    with path.open("rb") as file:
        image = _read_guarded(path, lambda: Image.open(file, formats=_FORMATS))
        try:
            yield image
        finally:
            image.close()


def list_pictures(image: "Raster.Image", path: Path) -> list[int]:
    """The numbers of a file's pages that are pictures of their own: not thumbnails, gain maps or masks.

    A JPEG file holds one picture: what cameras append to it (MPO) are previews, depth and gain maps.

    Raises:
        DamagedImage: the pages of a TIFF file cannot be read.
    """
    from PIL import TiffImagePlugin

    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return list(range(1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)))
    tiff = image

    def read() -> list[int]:
        pictures = []
        for index in range(tiff.n_frames):
            tiff.seek(index)
            if not tiff.tag_v2.get(_SUBFILE, 0) & _SECONDARY:
                pictures.append(index)
        return pictures or [0]

    return _read_guarded(path, read)


def show(image: "Raster.Image", path: Path, index: int) -> Display:
    """Decode frame `index`, upright as its orientation tag says: (H, W) for grey, (H, W, 3) for colour.

    Raises:
        DamagedImage: it cannot be decoded, or its numbers do not say which is black and which white.
    """
    from PIL import ImageOps

    def read() -> Display:
        image.seek(index)
        # Before the pixels are turned: that makes an image without the file's tags.
        white, inverted = _read_grey_scale(image, path)
        values = _to_display(ImageOps.exif_transpose(image), path, white)
        return np.asarray(1 - values) if inverted else values

    return _read_guarded(path, read)


def _read_guarded(path: Path, read: Callable[[], T]) -> T:
    """The result of `read`; an image library's errors become a DamagedImage."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except Image.DecompressionBombError as error:
        raise DamagedImage(f"{path} announces more pixels than are read here. Reduce the image.") from error
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise DamagedImage(
            f"{path} cannot be decoded: the file is cut off or damaged, or its kind of pixels is not read here. "
            f"Expected {', '.join(_FORMATS)} with 8 or 16 bits a channel."
        ) from error
    except Exception as error:  # the library's decoders raise many kinds of error on foreign bytes
        raise DamagedImage(f"{path} cannot be decoded: the file is cut off or damaged. Fetch it again.") from error


def _read_grey_scale(image: "Raster.Image", path: Path) -> tuple[float, bool]:
    """The number that is white in 16-bit grey, and whether Pillow leaves the grey scale of the file inverted.

    Raises:
        DamagedImage: signed or 32-bit whole numbers.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return 65535.0, False
    bits, signed = int(tags.get(_BITS, (1,))[0]), tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
    if signed or image.mode == "I":
        raise DamagedImage(
            f"{path} holds {'signed' if signed else f'{bits}-bit'} whole numbers, and nothing says which is black and "
            "which white. Save it as 8 or 16 bits, unsigned."
        )
    # Pillow inverts grey of up to 8 bits itself.
    inverted = tags.get(_PHOTOMETRIC) == 0 and image.mode in ("I;16", "I;16B", "F")
    return 2.0**bits - 1, inverted


def _to_display(image: "Raster.Image", path: Path, white: float) -> Display:
    from PIL import Image

    if image.mode in ("I;16", "I;16L", "I;16B", "I"):
        return np.asarray(np.clip(np.asarray(image).astype(np.float32) / np.float32(white), 0, 1))
    if image.mode == "F":
        values = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise DamagedImage(f"{path} holds fractions outside of 0 (black) to 1 (white). Scale them to that range.")
        return values
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L")).astype(np.float32) / np.float32(255)
    if image.mode in ("LA", "La") or "transparency" in image.info or image.mode in ("RGBA", "RGBa", "PA"):
        # Transparent pixels are shown as black, the background of a medical image.
        grey = image.mode in ("LA", "La") or (image.mode == "L")
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("L" if grey else "RGB")
    if image.mode != "L":
        image = image.convert("RGB")
    return np.asarray(image).astype(np.float32) / np.float32(255)
