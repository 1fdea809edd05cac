"""The victim of the attack: enciphers chosen images under one key and salt, and counts them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 1024, 32
"""Shape of the chosen images in words. Each tile of version 1 then becomes one column of the grid that it sweeps."""
TILE = 32

Encrypt = Callable[[NDArray[Any]], NDArray[Any]]
"""Encryption under one key and salt."""
Grid = NDArray[Any]
"""(1024, 32) words of 8 or 16 bits."""


Choice = TypeVar("Choice")


class AttackFailed(Exception):
    """The cipher does not behave as version 1 does: the attack gives up."""


class Oracle:
    """Images of one value with some words changed, enciphered."""

    def __init__(self, encrypt: Encrypt, bits: int, rng: np.random.Generator) -> None:
        self._encrypt = encrypt
        self.bits = bits
        self.rng = rng
        self.images = 0
        """Images enciphered."""
        self.word = np.dtype(np.uint8 if bits == 8 else np.uint16)
        self.bases = (0, *(int(value) for value in self.values(3)))
        """Values of the four flat images that others differ from in some words."""

    def values(self, count: int) -> NDArray[np.int64]:
        """Random values other than 0."""
        return self.rng.integers(1, 1 << self.bits, count)

    def encipher(self, image: Grid) -> Grid:
        """The cipher image of (1024, 32) words."""
        self.images += 1
        return self._encrypt(np.ascontiguousarray(image, self.word).reshape(ROWS, COLUMNS))

    def change(self, places: NDArray[np.int64] | Sequence[int], values: NDArray[np.int64], base: int = 0) -> Grid:
        """The cipher image of a flat image, number `base`, with the words at flat `places` replaced."""
        image = np.full(ROWS * COLUMNS, self.bases[base], self.word)
        image[places] = values
        return self.encipher(image)

    def pixels_of_tile(self, tile: int, count: int | None = None) -> list[int]:
        """Flat places of some random words of a tile, or of all."""
        if count is None:
            return [(TILE * tile + row) * COLUMNS + column for row in range(TILE) for column in range(TILE)]
        rows, columns = self.rng.integers(TILE, size=(2, count))
        return [(TILE * tile + int(row)) * COLUMNS + int(column) for row, column in zip(rows, columns, strict=True)]


def most_voted(votes: dict[Choice, int]) -> Choice:
    """The choice with most votes.

    Raises:
        AttackFailed: nothing was voted for.
    """
    if not votes:
        raise AttackFailed
    return max(votes, key=lambda choice: votes[choice])
