"""Chosen images: black, white and position-counting ones, and the superposition residual of a cipher.

A cipher that is linear (or affine) in its input, over GF(2) or modulo 2^w, gives the residuals below as zeros, and then
a few chosen images give its whole secret (as `toy_attack` shows). An ideal cipher leaves uniformly random residuals.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipher.analysis.pixels import Image, words

Encrypt = Callable[[Image], Image]
"""Encryption under one key and salt."""


def black(like: Image) -> Image:
    """An image of zeros."""
    return np.zeros_like(like)


def white(like: Image) -> Image:
    """An image of ones in every bit."""
    image = np.zeros_like(like, order="C")
    words(image)[...] = np.iinfo(words(image).dtype).max
    return image


def xor(first: Image, second: Image) -> Image:
    """The bitwise sum of two images, of the first one's type."""
    return _typed(words(first) ^ words(second), first)


def add(first: Image, second: Image) -> Image:
    """The sum of two images modulo 2^w, of the first one's type."""
    return _typed(words(first) + words(second), first)


def subtract(first: Image, second: Image) -> Image:
    """The difference of two images modulo 2^w, of the first one's type."""
    return _typed(words(first) - words(second), first)


def xor_residual(encrypt: Encrypt, first: Image, second: Image) -> Image:
    """E(a + b) + E(a) + E(b) + E(0), with + the bitwise sum: zero everywhere for a cipher affine over GF(2)."""
    both = xor(encrypt(xor(first, second)), encrypt(black(first)))
    return xor(both, xor(encrypt(first), encrypt(second)))


def sum_residual(encrypt: Encrypt, first: Image, second: Image) -> Image:
    """E(a + b) - E(a) - E(b) + E(0) modulo 2^w: zero everywhere for a cipher affine modulo 2^w."""
    both = add(encrypt(add(first, second)), encrypt(black(first)))
    return subtract(both, add(encrypt(first), encrypt(second)))


def _typed(unsigned: NDArray[Any], like: Image) -> Image:
    """Words as pixels of the type of `like`."""
    return unsigned.astype(words(like).dtype, copy=False).view(like.dtype)
