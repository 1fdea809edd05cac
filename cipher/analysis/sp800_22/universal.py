"""Maurer's universal statistical test (2.9)."""

import math

import numpy as np

from cipher.analysis.sp800_22.bits import Bits

# L: expected value and variance of the statistic, 2.9.4; from which n the document takes L, 2.9.7.
_MOMENTS = {
    2: (1.5374383, 1.338),
    6: (5.2177052, 2.954),
    7: (6.1962507, 3.125),
    8: (7.1836656, 3.238),
    9: (8.1764248, 3.311),
    10: (9.1723243, 3.356),
}
# The least n for each L, 2.9.7; longer sequences than these are not met here.
_LEAST_BITS = ((10_342_400, 10), (4_654_080, 9), (2_068_480, 8), (904_960, 7), (387_840, 6))


def block_length(n: int) -> int:
    """L for a sequence of n bits, 2.9.7.

    Raises:
        ValueError: fewer than 387,840 bits.
    """
    for least, length in _LEAST_BITS:
        if n >= least:
            return length
    raise ValueError(f"the universal test needs {_LEAST_BITS[-1][0]} bits or more, not {n}")


def universal(bits: Bits, length: int, initial: int) -> float:
    """P-value of the universal test, 2.9: L = `length` bits a block, Q = `initial` blocks that only fill the table.

    The document's numerical example for L = 2 forgets that its formula takes the root of the variance; its definition
    is what counts here.
    """
    mean, variance = _MOMENTS[length]
    blocks = bits.size // length
    tested = blocks - initial
    weights = 1 << np.arange(length - 1, -1, -1)
    values = bits[: blocks * length].reshape(blocks, length) @ weights
    # Sorting by value, stably, puts each block behind the last one of the same value.
    order = np.argsort(values, kind="stable")
    same = values[order[1:]] == values[order[:-1]]
    distance = order + 1
    distance[1:][same] = order[1:][same] - order[:-1][same]
    statistic = float(np.log2(distance[order >= initial]).sum()) / tested
    correction = 0.7 - 0.8 / length + (4 + 32 / length) * tested ** (-3 / length) / 15
    return math.erfc(abs(statistic - mean) / (math.sqrt(2 * variance / tested) * correction))
