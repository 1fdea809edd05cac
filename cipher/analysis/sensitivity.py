"""Sensitivity to one bit of the plaintext, of the key and of the salt, counted in bits (avalanche)."""

import numpy as np
from numpy.typing import NDArray

from cipher.analysis.pixels import Image, words
from cipher.analysis.probability import binomial

KEY_BITS = 256
SIGNIFICANCE = 0.01


def flip_bit(data: bytes, index: int) -> bytes:
    """Flip one bit of a key or salt; index 0 is the lowest bit of the first byte."""
    changed = bytearray(data)
    changed[index // 8] ^= 1 << (index % 8)
    return bytes(changed)


def flip_pixel_bit(image: Image, pixel: int, bit: int) -> Image:
    """A copy of the image with one bit of one pixel (in row-major order) flipped."""
    copy = np.ascontiguousarray(image).copy()
    words(copy).reshape(-1)[pixel] ^= 1 << bit
    return copy


def changed_bits(first: Image, second: Image) -> int:
    """Number of bits that differ between two cipher images."""
    difference: NDArray[np.uint32] = (words(first) ^ words(second)).astype(np.uint32)
    return int(np.bitwise_count(difference).sum(dtype=np.int64))


def bits(image: Image) -> int:
    """Number of bits in all pixels of the image."""
    return image.size * image.dtype.itemsize * 8


def p_value(changed: int, total: int) -> float:
    """Exact two-sided P-value of a number of changed bits: an ideal cipher changes each with probability 1/2."""
    return binomial(changed, total, 0.5)
