"""Step 4, confusion: the partitions are taken in the network's order, and each one's pixels are scrambled."""

import numpy as np

from cipher.algorithm.words import Words
from cipher.analysis.version1.engine import VectorisedEngine
from cipher.analysis.version1.geometry import Geometry
from cipher.analysis.version1.keystream import KeyStream
from cipher.analysis.version1.partition import select_partitions


def scramble(block: Words, geometry: Geometry, stream: KeyStream, engine: VectorisedEngine) -> Words:
    """Steps 4.1, 4.2 and 5.1: the scrambled words of all partitions, one after the other, as one vector.

    Args:
        block: the grid's words, (rows * columns,).
        geometry: shape of the grid.
        stream: the confusion stage's key stream, from its beginning.
        engine: the loops.
    """
    partitions = select_partitions(geometry, stream)
    vector = np.empty_like(block)
    engine.gather(block.reshape(geometry.rows, geometry.columns), partitions.tiles, partitions.pool, vector)
    return vector


def unscramble(vector: Words, geometry: Geometry, stream: KeyStream, engine: VectorisedEngine) -> Words:
    """The inverse of `scramble`."""
    partitions = select_partitions(geometry, stream)
    block = np.empty_like(vector)
    engine.scatter(vector, partitions.tiles, partitions.pool, block.reshape(geometry.rows, geometry.columns))
    return block
