"""The partitions of half of an image, and how each is scrambled. `cipher.algorithm.partition` draws them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Strip(NamedTuple):
    """The tiles of one width, side by side over the whole height of the half."""

    column: int
    """First column."""
    across: int
    """Tiles side by side."""
    width: int
    """Words in a tile's row."""
    first_word: int
    """Index of the strip's first word in the half's part of the vector."""


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """Division of a half into tiles, and the draws that scramble each."""

    bands: NDArray[np.int64]
    """(bands + 1,): first row of each row of tiles, and the number of rows."""
    strips: tuple[Strip, ...]
    manners: NDArray[np.uint64]
    """(16,): the high half turns rows, the lowest bits the words. See `turns` and `bit_turns`."""
    draws: NDArray[np.uint32]
    """For each strip one a tile, row by row, for the tiles' order; then one a row of each tile, row by row of the half.

    The low 16 bits of a row's draw order the rows, the high 4 are its manner.
    """

    def turns(self, strip: Strip) -> NDArray[np.int64]:
        """By how many words each manner turns a row of the strip: (16,)."""
        return ((self.manners >> np.uint64(32)) * np.uint64(strip.width) >> np.uint64(32)).astype(np.int64)

    def bit_turns(self, bits: int) -> NDArray[np.int64]:
        """By how many bits each manner turns a word of `bits` bits to the left: (16,)."""
        return (self.manners & np.uint64(bits - 1)).astype(np.int64)

    def split_draws(self) -> list[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
        """Each strip's draws: of its tiles (bands, across), and of its tiles' rows (rows, across)."""
        found, used, bands, rows = [], 0, self.bands.size - 1, int(self.bands[-1])
        for strip in self.strips:
            middle, end = used + bands * strip.across, used + (bands + rows) * strip.across
            tiles, lines = self.draws[used:middle], self.draws[middle:end]
            found.append((tiles.reshape(bands, strip.across), lines.reshape(rows, strip.across)))
            used = end
        return found
