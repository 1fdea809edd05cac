"""One image file (DICOM, PNG or JPEG) -> display values for feature extraction.

The values are those a reader would see: rescaled, windowed, MONOCHROME1 turned, palettes looked up; float32 from 0
(black) to 1 (white). The stored pixels are not kept: what must come back bit for bit goes through the image cipher.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DamagedImage, ImageError, NotAnImage

Display = NDArray[np.float32]

SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")
"""What a folder scan takes for images. `load_image` itself goes by the content, whatever the name."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def load_image(path: str | Path, *, frame: int | None = None) -> Display:
    """Read one image, or one frame of a multi-frame image (the middle one unless `frame` says otherwise).

    Returns:
        (H, W) for grey, (H, W, 3) for colour; float32 in [0, 1].

    Raises:
        NotAnImage: no such file, another kind of file, or a DICOM object without pixels.
        DamagedImage: the pixels cannot be decoded.
        ImageError: `frame` is out of range.
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "dicom":
        from models.images import dicom

        return dicom.display(dicom.read(path), path, frame)
    if frame not in (None, 0):
        raise ImageError(f"{path} holds one frame; frame {frame} was asked for.")
    return _load_raster(path)


def to_grey(image: NDArray[Any]) -> NDArray[np.float32]:
    """Luminance of the last axis of three channels (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B); grey passes through."""
    if image.ndim == 3 and image.shape[2] == 3:
        return (image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).astype(np.float32)
    return image.astype(np.float32)


def _kind(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except FileNotFoundError:
        raise NotAnImage(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise NotAnImage(f"{path} is a folder; an image file was expected.") from None
    except OSError as error:
        raise NotAnImage(f"{path} cannot be opened: {error.strerror}.") from error
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith((_PNG, _JPEG)):
        return "raster"
    if not head:
        raise NotAnImage(f"{path} is empty. Expected a DICOM, PNG or JPEG image.")
    # Old DICOM files may lack the preamble; the reader decides, since their first bytes are no signature.
    if path.suffix.lower() in (".dcm", ".dicom", ".ima", ""):
        return "dicom"
    raise NotAnImage(f"{path} is not an image that can be read here. Expected DICOM, PNG or JPEG.")


def _load_raster(path: Path) -> Display:
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG", "JPEG")) as opened:
                image = ImageOps.exif_transpose(opened)
                image.load()
    except Image.DecompressionBombError as error:
        raise DamagedImage(f"{path} announces more pixels than this program is willing to unpack.") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DamagedImage(f"{path} cannot be decoded: the file is cut off or damaged. Fetch it again.") from error
    if image.mode in ("I;16", "I;16L", "I;16B", "I"):
        return np.asarray(np.clip(np.asarray(image).astype(np.float32) / np.float32(65535), 0, 1))
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
