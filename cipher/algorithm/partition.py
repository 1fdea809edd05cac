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
from cipher.algorithm.keystream import read_stream
from cipher.algorithm.tiles import Division, Strip
from cipher.algorithm.weights import Network

MANNERS = 16
"""Pairs of a turn of the row and a turn of its words' bits that a half has; each row draws one of them."""


def divide(rows: int, columns: int, bits: int, features: Features, network: Network, engine: Engine) -> Division:
    """Divide half of the grid.

    The network's stream is read in this order: two u64 for where the first row and the first column of tiles end; 16
    u64, one a manner (the high half turns the rows, the lowest bits the words); then for each strip (middle, left,
    right) that is not empty one u32 a tile, for the order, and one u32 a row of each tile.

    Args:
        rows: rows of the half.
        columns: columns of the grid.
        bits: bits in a word.
        features: features of the other half.
        network: the network of this half's confusion.
        engine: the loops.
    """
    height, width = features.tile(bits)
    # As many draws as there are at most: two ragged strips, and two ragged bands.
    most = (rows + rows // height + 2) * (columns // width + 2)
    stream = read_stream(network, 2 + MANNERS + most // 2 + 1, engine)
    bands = _cuts(int(stream[0]) % height, height, rows)
    left = min(int(stream[1]) % width, columns)
    across = (columns - left) // width
    right = columns - left - across * width
    strips, word = [], 0
    for column, count, wide in ((left, across, width), (0, 1, left), (columns - right, 1, right)):
        if count and wide:
            strips.append(Strip(column, count, wide, word))
            word += rows * count * wide
    draws = stream[2 + MANNERS :].view("<u4")
    manners = stream[2 : 2 + MANNERS]
    return Division(
        bands, tuple(strips), manners.astype(np.uint64, copy=False), draws.astype(np.uint32, copy=False)
    )  # fmt: skip


def _cuts(first: int, step: int, end: int) -> NDArray[np.int64]:
    return np.array([0, *range(first or step, end, step), end], np.int64)
