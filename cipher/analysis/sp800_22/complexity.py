"""The linear complexity test (2.10), with Berlekamp and Massey's algorithm run on all blocks at once."""

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cipher.analysis.sp800_22.bits import Bits

PROBABILITIES = (1 / 96, 1 / 32, 1 / 8, 1 / 2, 1 / 4, 1 / 16, 1 / 48)
"""Probabilities of T <= -2.5, .. <= 2.5, > 2.5, section 3.10. The reference code has 0.01047 for the first, a slip."""

_WORD = 64


def linear_complexity(bits: Bits, block: int = 500) -> float:
    """P-value of the linear complexity test, 2.10: blocks of `block` bits, between 500 and 5000."""
    counts = complexity_counts(bits, block)
    expected = counts.sum() * np.array(PROBABILITIES)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    return float(special.gammaincc(3.0, chi_square / 2))


def complexity_counts(bits: Bits, block: int) -> NDArray[np.int64]:
    """Number of blocks in each of the seven classes of T, 2.10.4 (5)."""
    blocks = bits.size // block
    lengths = shortest_registers(bits[: blocks * block].reshape(blocks, block))
    sign = -1.0 if block % 2 else 1.0
    mean = block / 2 + (9 - sign) / 36 - (block / 3 + 2 / 9) / 2.0**block
    deviation = sign * (lengths - mean) + 2 / 9
    return np.bincount(np.searchsorted(np.arange(-2.5, 3.0), deviation, side="left"), minlength=7)


def shortest_registers(blocks: Bits) -> NDArray[np.int64]:
    """The length of the shortest linear feedback register that makes each row of (count, length) bits.

    Berlekamp-Massey (Massey, 1969) with each polynomial packed in 64-bit words; rows in step, so that each of the
    `length` steps is a few numpy calls whatever the number of rows.
    """
    count, length = blocks.shape
    words = length // _WORD + 1
    connection = np.zeros((count, words), dtype=np.uint64)
    connection[:, 0] = 1
    previous = connection.copy()  # the connection polynomial before the last change of length, times x each step
    window = np.zeros_like(connection)  # bit i is the sequence's bit n - i
    lengths = np.zeros(count, dtype=np.int64)
    for n in range(length):
        _times_x(previous)
        _times_x(window)
        window[:, 0] |= blocks[:, n].astype(np.uint64)
        parity = np.bitwise_count(connection & window).sum(axis=1) & 1
        odd = parity.astype(bool)
        longer = odd & (2 * lengths <= n)
        before = connection[longer]
        connection[odd] ^= previous[odd]
        previous[longer] = before
        lengths[longer] = n + 1 - lengths[longer]
    return lengths


def _times_x(polynomials: NDArray[np.uint64]) -> None:
    """Multiply each row by x in place: a shift by one bit across its words."""
    carry = polynomials[:, :-1] >> np.uint64(_WORD - 1)
    polynomials <<= np.uint64(1)
    polynomials[:, 1:] |= carry
