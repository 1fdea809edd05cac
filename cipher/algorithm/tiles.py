"""The partitions of half of an image, and how each is scrambled. `cipher.algorithm.partition` draws them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """The tiles of one width, side by side over the whole height of the half."""

    column: int
    """First column."""
    across: int
    """Tiles side by side."""
    width: int
    """Words in a tile's row."""
    first_word: int
    """Index of the strip's first word in the half's part of the vector."""
    places: NDArray[np.int64]
    """(bands, across): before which row of the strip's part each tile begins, in the order of the tiles."""
    draws: NDArray[np.uint32]
    """(rows, across): a draw for each row of each tile. The low 16 bits order the rows, the high 4 give the manner."""
    turns: NDArray[np.int64]
    """(16,): by how many words each manner turns a row."""


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """Division of a half into tiles, and the scrambling of each."""

    bands: NDArray[np.int64]
    """(bands + 1,): first row of each row of tiles, and the number of rows."""
    bit_turns: NDArray[np.int64]
    """(16,): by how many bits each manner turns a word to the left."""
    strips: tuple[Strip, ...]
