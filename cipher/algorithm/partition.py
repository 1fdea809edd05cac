"""Steps 4.1 and 4.2: select partitions with the network, and draw how each is scrambled.

Half of the grid is cut into tiles whose height and width come from the features and whose first tile is cut where the
network says, so that ragged tiles lie at all edges. The tiles of one width form a *strip*: the full ones in the middle,
the ragged ones at the left and at the right. In each strip the network gives the order of the tiles; in each tile, by
draws of its own, the order of its rows, and for every row how far it is turned and how far the bits of its words are.
"""

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine.protocol import Engine
from cipher.algorithm.features import Features
from cipher.algorithm.keystream import KeyStream
from cipher.algorithm.tiles import Division, Strip

MANNERS = 16
"""Pairs of a turn of the row and a turn of its words' bits that a half has; each row draws one of them."""


def divide(rows: int, columns: int, bits: int, features: Features, stream: KeyStream, engine: Engine) -> Division:
    """Divide half of the grid.

    The stream is read in this order: two u64 for where the first row and the first column of tiles end; 16 u64, one a
    manner (the high half turns the rows, the lowest bits the words); then for each strip (middle, left, right) that is
    not empty one u32 a tile, for the order, and one u32 a row of each tile.

    Args:
        rows: rows of the half.
        columns: columns of the grid.
        bits: bits in a word.
        features: features of the other half.
        stream: key stream of this half's confusion, from its beginning.
        engine: the loops.
    """
    height, width = features.tile(bits)
    beginning = stream.read(2 + MANNERS, "<u8")
    first_row, first_column, manners = int(beginning[0]), int(beginning[1]), beginning[2:]
    bands = _cuts(first_row % height, height, rows)
    left = min(first_column % width, columns)
    across = (columns - left) // width
    right = columns - left - across * width
    every = ((left, across, width), (0, 1, left), (columns - right, 1, right))
    wanted = [(column, count, wide) for column, count, wide in every if count and wide]
    draws = stream.read(sum((len(bands) - 1 + rows) * count for _, count, _ in wanted), "<u4")
    draws = draws.astype(np.uint32, copy=False)
    strips = []
    word, high = 0, manners >> np.uint64(32)
    for column, count, wide in wanted:
        taken = (len(bands) - 1 + rows) * count
        turns = (high * np.uint64(wide) >> np.uint64(32)).view(np.int64)
        strips.append(_lay_strip(column, count, wide, word, bands, turns, draws[:taken], engine))
        draws = draws[taken:]
        word += rows * count * wide
    return Division(bands, (manners & np.uint64(bits - 1)).astype(np.int64), tuple(strips))


def _lay_strip(
    column: int,
    across: int,
    width: int,
    word: int,
    bands: NDArray[np.int64],
    turns: NDArray[np.int64],
    draws: NDArray[np.uint32],
    engine: Engine,
) -> Strip:
    """A strip from its draws: one a tile, then one a row of each tile."""
    rows, count = int(bands[-1]), (len(bands) - 1) * across
    places = engine.arrange(draws[:count], bands)
    return Strip(column, across, width, word, places, draws[count:].reshape(rows, across), turns)


def _cuts(first: int, step: int, end: int) -> NDArray[np.int64]:
    return np.array([0, *range(first or step, end, step), end], np.int64)
