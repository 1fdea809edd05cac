"""The binary matrix rank test (2.5)."""

import math

import numpy as np
from numpy.typing import NDArray

from cipher.analysis.sp800_22.bits import Bits


def matrix_rank(bits: Bits, rows: int = 32, columns: int = 32) -> float:
    """P-value of the binary matrix rank test, 2.5: disjoint rows x columns matrices, filled row by row."""
    size = rows * columns
    count = bits.size // size
    matrices = bits[: count * size].reshape(count, rows, columns)
    ranks = gf2_ranks(matrices)
    full = min(rows, columns)
    probabilities = np.array([rank_probability(rows, columns, full), rank_probability(rows, columns, full - 1), 0.0])
    probabilities[2] = 1 - probabilities[:2].sum()
    observed = np.array([np.count_nonzero(ranks == full), np.count_nonzero(ranks == full - 1), 0])
    observed[2] = count - observed[:2].sum()
    expected = count * probabilities
    return math.exp(-float(((observed - expected) ** 2 / expected).sum()) / 2)


def gf2_ranks(matrices: Bits) -> NDArray[np.int64]:
    """The rank over GF(2) of each of (count, rows, columns) matrices; at most 64 columns."""
    count, _, columns = matrices.shape
    weights = np.uint64(1) << np.arange(columns, dtype=np.uint64)
    packed = (matrices.astype(np.uint64) * weights).sum(axis=2, dtype=np.uint64)
    unused = np.ones(packed.shape, dtype=bool)
    every = np.arange(count)
    ranks = np.zeros(count, dtype=np.int64)
    for column in range(columns):
        has_bit = ((packed >> np.uint64(column)) & np.uint64(1)).astype(bool) & unused
        pivot = has_bit.argmax(axis=1)
        found = has_bit[every, pivot]
        ranks += found
        unused[every[found], pivot[found]] = False
        has_bit[every, pivot] = False
        pivots = np.where(found, packed[every, pivot], np.uint64(0))
        packed ^= np.where(has_bit, pivots[:, np.newaxis], np.uint64(0))
    return ranks


def rank_probability(rows: int, columns: int, rank: int) -> float:
    """Probability that a uniformly random rows x columns matrix over GF(2) has this rank, 3.5."""
    exponent = rank * (rows + columns - rank) - rows * columns
    product = 1.0
    for i in range(rank):
        product *= (1 - 2.0 ** (i - rows)) * (1 - 2.0 ** (i - columns)) / (1 - 2.0 ** (i - rank))
    return 2.0**exponent * product
