"""Tests of the balance of ones and zeros: the monobit, block frequency and cumulative sums tests (2.1, 2.2, 2.13)."""

import math

import numpy as np
from scipy import special

from cipher.analysis.sp800_22.bits import Bits


def monobit(bits: Bits) -> float:
    """P-value of the frequency test, 2.1: whether the number of ones is about n/2."""
    n = bits.size
    excess = 2 * int(bits.sum(dtype=np.int64)) - n
    return math.erfc(abs(excess) / math.sqrt(2 * n))


def block_frequency(bits: Bits, block: int) -> float:
    """P-value of the frequency test within blocks of `block` bits, 2.2; an incomplete last block is left out."""
    blocks = bits.size // block
    shares = bits[: blocks * block].reshape(blocks, block).mean(axis=1)
    chi_square = 4 * block * float(((shares - 0.5) ** 2).sum())
    return float(special.gammaincc(blocks / 2, chi_square / 2))


def cumulative_sums(bits: Bits, *, backward: bool = False) -> float:
    """P-value of the cumulative sums test, 2.13: how far the +-1 walk strays from zero."""
    steps = 2 * bits.astype(np.int64) - 1
    walk = np.cumsum(steps[::-1] if backward else steps)
    n, z = bits.size, int(np.abs(walk).max())
    scale = z / math.sqrt(n)
    # The document leaves the rounding of its summation limits open; its reference results come from truncation.
    last = int((n / z - 1) / 4)
    first = 4 * np.arange(int((-n / z + 1) / 4), last + 1)
    second = 4 * np.arange(int((-n / z - 3) / 4), last + 1)
    inside = float((special.ndtr((first + 1) * scale) - special.ndtr((first - 1) * scale)).sum())
    inside -= float((special.ndtr((second + 3) * scale) - special.ndtr((second + 1) * scale)).sum())
    return min(max(1 - inside, 0.0), 1.0)
