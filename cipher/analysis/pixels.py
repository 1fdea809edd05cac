"""Pixels as the measures see them: unsigned words, their bytes, and the planes that have neighbours."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipher.errors import UnsupportedImage

Image = NDArray[Any]
"""Integer pixels, (H, W), (H, W, C), (F, H, W) or (F, H, W, C), of 8, 16 or 32 bits, signed or not."""

LEAST_PIXELS = 1024
"""Least number of pixels for the normal and chi-square approximations of the measures."""


def words(image: Image) -> NDArray[Any]:
    """The pixels as unsigned integers of the same width (two's complement for signed ones), same shape.

    Raises:
        UnsupportedImage: not an integer type of 8, 16 or 32 bits, or fewer than 1024 pixels.
    """
    if image.dtype.kind not in "iu" or image.dtype.itemsize > 4:
        raise UnsupportedImage(f"the analysis takes integer pixels of 8, 16 or 32 bits, not {image.dtype}")
    if image.size < LEAST_PIXELS:
        raise UnsupportedImage(
            f"the analysis needs {LEAST_PIXELS} pixels or more for its statistics to mean anything, not {image.size}"
        )
    return np.ascontiguousarray(image).view(np.dtype(f"u{image.dtype.itemsize}").newbyteorder(image.dtype.byteorder))


def octets(image: Image) -> dict[str, NDArray[np.uint8]]:
    """Each byte of the pixels apart, of the image's shape, by name: "pixel" for 8 bits; "low byte" .. "high byte"."""
    unsigned = words(image)
    count = unsigned.dtype.itemsize
    if count == 1:
        return {"pixel": unsigned.astype(np.uint8, copy=False)}
    names = ("low byte", "high byte") if count == 2 else ("low byte", "byte 1", "byte 2", "high byte")
    return {name: ((unsigned >> (8 * i)) & 0xFF).astype(np.uint8) for i, name in enumerate(names)}


def planes(image: Image) -> Image:
    """The image as (planes, H, W): one plane for each frame and colour, so that neighbours are spatial neighbours.

    Three or four values on a last axis are taken for colours, as everywhere in the cipher.
    """
    if image.ndim == 2:
        return image[np.newaxis]
    if image.ndim == 3:
        return np.moveaxis(image, -1, 0) if image.shape[-1] in (3, 4) else image
    if image.ndim == 4:
        return np.moveaxis(image, -1, 1).reshape(-1, *image.shape[1:3])
    raise UnsupportedImage(f"an image has two to four axes, not {image.ndim}")


def flat(image: Image) -> NDArray[np.uint8]:
    """The image's bytes in memory order, one-dimensional and writable (a copy)."""
    return np.frombuffer(bytearray(np.ascontiguousarray(image).tobytes()), dtype=np.uint8)


def from_flat(data: NDArray[np.uint8], like: Image) -> Image:
    """Turn bytes back into an image of the shape and type of `like`."""
    return np.frombuffer(data.tobytes(), dtype=like.dtype).reshape(like.shape).copy()


def highest(image: Image) -> int:
    """F, the highest value of the pixel type taken as unsigned: 255 or 65535 or 2^32 - 1."""
    return int(2 ** (8 * image.dtype.itemsize) - 1)
