"""Pixels as unsigned words, on which the inner cipher computes.

A sample of one byte is one 8-bit word; a wider sample (16, 32 or 64 bit; signed, unsigned or floating) is one or more
16-bit words, low half first. Only the bits are looked at, so every value, a signalling NaN included, comes back as it
was. The bytes are the same on machines of either byte order, and for arrays of either.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cipher.errors import UnsupportedImage

Words: TypeAlias = NDArray[np.unsignedinteger[Any]]

_KINDS = "uifb"


def check_type(dtype: np.dtype[np.generic]) -> None:
    """Refuse pixel types that are not plain numbers of 1, 2, 4 or 8 bytes.

    Raises:
        UnsupportedImage: naming the type.
    """
    if dtype.kind not in _KINDS or dtype.itemsize not in (1, 2, 4, 8):
        raise UnsupportedImage(
            f"Pixels of type {dtype} cannot be enciphered; integers, booleans and floats of 1, 2, 4 or 8 bytes can."
        )


def word_type(dtype: np.dtype[np.generic]) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    """The word that samples of `dtype` are cut into."""
    return np.dtype(np.uint8) if dtype.itemsize == 1 else np.dtype(np.uint16)


def to_words(array: NDArray[np.generic]) -> Words:
    """All samples in C order as a one-dimensional array of words: a view where the array's memory allows it."""
    bits = array.view(_bits_of(array.dtype))
    little = bits.astype(bits.dtype.newbyteorder("<"), order="C", copy=False)
    words = little.reshape(-1).view(word_type(array.dtype).newbyteorder("<"))
    return words.astype(word_type(array.dtype), copy=False)


def from_words(words: Words, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """The inverse of `to_words`: an array of `shape` and `dtype`, its byte order included."""
    bits = _bits_of(dtype)
    little = words.astype(words.dtype.newbyteorder("<"), copy=False).view(bits.newbyteorder("<"))
    return little.astype(bits, copy=False).view(dtype).reshape(shape)


def _bits_of(dtype: np.dtype[np.generic]) -> np.dtype[np.unsignedinteger[Any]]:
    """The unsigned type of the same size and byte order: converting it never touches a bit, as a float's might."""
    return np.dtype(f"u{dtype.itemsize}").newbyteorder(dtype.byteorder if dtype.byteorder in "<>" else "=")
