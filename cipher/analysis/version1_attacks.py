"""Two chosen-image attacks that break version 1 of the inner cipher at fixed key and salt.

The attacker has images of his choice enciphered under the victim's key and salt, and knows the design. Neither attack
guesses a key. A third one, which finds an equivalent key, is `cipher.analysis.equivalent_key`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.words import to_words
from cipher.analysis.pixels import Image, words
from cipher.analysis.version1.geometry import grid_of

Encrypt = Callable[[Image], Image]
"""Encryption under one key and salt."""

IMAGES = 7
"""Chosen images that `solve_last_sweep` needs for a sweep's constants."""
_CHECKS = 4
"""Further images whose words the constants must foretell."""


def flip_plane(image: Image, bit: int) -> Image:
    """The image with one bit of every word flipped."""
    view = words(image)
    flipped: Image = (view ^ view.dtype.type(1 << bit)).view(image.dtype).reshape(image.shape)
    return flipped


def sign_plane_share(encrypt: Encrypt, image: Image) -> float:
    """Share of words of E(x with the sign plane flipped) that are those of E(x) with it flipped: for version 1 all."""
    top = 8 * words(image).dtype.itemsize - 1
    flipped = words(encrypt(flip_plane(image, top)))
    return float((flipped == words(flip_plane(encrypt(image), top))).mean())


@dataclass(frozen=True, slots=True)
class SweepConstants:
    """Constants of version 1's last sweep at the last column, as seven images give them."""

    forward: int
    sideways: int
    shift: int
    offset: int
    key_word: int

    def foretell(self, row: NDArray[np.int64], bits: int) -> int:
        """The last word of the first row of a cipher image, from its second row."""
        mask = (1 << bits) - 1
        v = (self.forward * int(row[-1]) + self.sideways * int(row[self.shift - 1]) + self.offset) & mask
        return (self.key_word + _q(v, bits)) & mask


@dataclass(frozen=True, slots=True)
class SevenImages:
    """The outcome of the seven-image attack."""

    solved: bool
    """Whether constants were found that foretell the words of further images."""
    images: int
    """Number of chosen images in all."""


def seven_images(encrypt: Encrypt, like: Image, rng: np.random.Generator, *, pixels: int = 12) -> SevenImages:
    """Solve for the last sweep's constants from images that differ in one pixel; a few pixels are tried.

    Args:
        encrypt: the victim.
        like: shape and type of the chosen images; at least two rows and columns of words.
        rng: chooses pixels and values.
        pixels: how many pixels are tried.
    """
    geometry = grid_of(like.shape, like.dtype.itemsize)
    base = np.zeros_like(like, order="C")
    used = 0

    def rows(value: int, place: int) -> NDArray[np.int64]:
        nonlocal used
        used += 1
        image = base.copy()
        image.reshape(-1).view(f"u{image.itemsize}")[place] = value
        grid = to_words(encrypt(image))[: geometry.block].reshape(geometry.rows, geometry.columns)
        return grid[:2].astype(np.int64)

    for _ in range(pixels):
        place = int(rng.integers(base.size))
        values = rng.integers(1, 1 << geometry.bits, IMAGES - 1)
        pairs = np.array([rows(0, place), *(rows(int(value), place) for value in values)])
        for found in solve_last_sweep(pairs, geometry.bits)[:4]:
            checks = [rows(int(value), place) for value in rng.integers(1, 1 << geometry.bits, _CHECKS)]
            if all(found.foretell(pair[1], geometry.bits) == pair[0, -1] for pair in checks):
                return SevenImages(True, used)
    return SevenImages(False, used)


def solve_last_sweep(pairs: NDArray[np.int64], bits: int) -> list[SweepConstants]:
    """All constants with which c[0] = k + q(a c[1] + b roll(c[1], s) + d) holds in the last column of every image.

    Two images whose differences have an odd determinant give a and b for each s and k by linear algebra modulo 2^w; the
    others check them.

    Args:
        pairs: (images, 2, columns): the first two rows of each cipher image.
        bits: w.
    """
    mask, columns = (1 << bits) - 1, pairs.shape[2]
    inverse = np.empty(1 << bits, np.int64)
    every = np.arange(1 << bits, dtype=np.int64)
    inverse[_q_all(every, bits)] = every
    target = inverse[(pairs[:, 0, -1, None] - every) & mask]  # (images, k): what q must have been given
    solutions = []
    for shift in range(1, columns):
        x, y = pairs[:, 1, -1], pairs[:, 1, (columns - 1 + shift) % columns]
        dx, dy, dv = x - x[0], y - y[0], target - target[0]
        determinants = np.outer(dx, dy) - np.outer(dy, dx)
        odd = np.argwhere(np.triu(determinants & 1))
        if not odd.size:
            continue
        i, j = odd[0]
        factor = pow(int(determinants[i, j]) & mask, -1, 1 << bits)
        a = ((dv[i] * dy[j] - dv[j] * dy[i]) & mask) * factor & mask
        b = ((dv[j] * dx[i] - dv[i] * dx[j]) & mask) * factor & mask
        d = (target[0] - a * x[0] - b * y[0]) & mask
        fits = (a & b & 1).astype(bool)
        for image in range(len(pairs)):
            fits &= (a * x[image] + b * y[image] + d) & mask == target[image]
        solutions += [
            SweepConstants(int(a[k]), int(b[k]), shift, int(d[k]), int(k)) for k in np.flatnonzero(fits).tolist()
        ]
    return solutions


def _q_all(v: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    squared = v * (2 * v + 1) & ((1 << bits) - 1)
    return squared ^ (squared >> bits // 2)


def _q(v: int, bits: int) -> int:
    return int(_q_all(np.array([v]), bits)[0])
