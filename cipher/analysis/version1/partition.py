"""Step 4.1: select partitions with the network.

The grid is cut into tiles of 32 x 32 words, the ragged ones at the right and lower edges kept. The network's outputs
give the order in which the tiles are taken, and for each tile which scrambling it gets.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipher.analysis.version1.geometry import TILE, TILE_WORDS, Geometry
from cipher.analysis.version1.keystream import KeyStream

POOL = 64
"""Most permutations that one image draws; a tile gets one of them, begun at one of 1024 places."""

_INDEX_BITS = 24


@dataclass(frozen=True, slots=True, eq=False)
class Partitions:
    """The tiles, row by row of the grid."""

    tiles: NDArray[np.int64]
    """(T, 7): first row, first column, height, width, number of the permutation in the pool, place where it begins, and
    where the tile's words begin in the vector: after those of all tiles that are taken before it."""
    pool: NDArray[np.int64]
    """(P, 1024): permutations of a whole tile's words, numbered row by row. A ragged tile of n words uses the entries
    below n, in their order."""


def select_partitions(geometry: Geometry, stream: KeyStream) -> Partitions:
    """Tiles, their order and their scrambling, from the confusion stage's key stream.

    The stream is read in this order: one 64-bit word a tile, whose sorting gives the order; one 64-bit word a tile,
    whose top 32 bits choose the permutation and whose low 10 bits the place where it begins; then 1024 words a
    permutation, whose sorting is the permutation. A word's low bits are replaced by its number before sorting, so
    that no two are equal.
    """
    across = -(-geometry.columns // TILE)
    down = -(-geometry.rows // TILE)
    count = across * down
    order = _sorted_order(stream.read_wide(count), _INDEX_BITS)
    choices = stream.read_wide(count)
    pool_size = min(POOL, count)
    pool = _sorted_order(stream.read_wide(pool_size * TILE_WORDS).reshape(pool_size, TILE_WORDS), 10)
    tiles = np.empty((count, 7), np.int64)
    number = np.arange(count)
    tiles[:, 0] = number // across * TILE
    tiles[:, 1] = number % across * TILE
    tiles[:, 2] = np.minimum(TILE, geometry.rows - tiles[:, 0])
    tiles[:, 3] = np.minimum(TILE, geometry.columns - tiles[:, 1])
    tiles[:, 4] = (choices >> 32) % pool_size
    tiles[:, 5] = choices & (TILE_WORDS - 1)
    taken = (tiles[:, 2] * tiles[:, 3])[order]
    tiles[order, 6] = np.cumsum(taken) - taken
    return Partitions(tiles, pool)


def _sorted_order(words: NDArray[np.uint64], index_bits: int) -> NDArray[np.int64]:
    """The order that sorts the last axis, by the words' high bits and then by place."""
    marked = words >> index_bits << index_bits | np.arange(words.shape[-1], dtype=np.uint64)
    marked.sort(axis=-1)
    return (marked & ((1 << index_bits) - 1)).astype(np.int64)
