"""Frequencies of all m-bit patterns: the serial and the approximate entropy test (2.11, 2.12)."""

import math

import numpy as np
from scipy import special

from cipher.analysis.sp800_22.bits import Bits, codes


def serial(bits: Bits, width: int) -> tuple[float, float]:
    """The two P-values of the serial test, 2.11, for patterns of `width` bits."""
    psi = [_psi_square(bits, width - drop) for drop in range(3)]
    first = psi[0] - psi[1]
    second = psi[0] - 2 * psi[1] + psi[2]
    return (
        float(special.gammaincc(2.0 ** (width - 2), first / 2)),
        float(special.gammaincc(2.0 ** (width - 3), second / 2)),
    )


def approximate_entropy(bits: Bits, width: int) -> float:
    """P-value of the approximate entropy test, 2.12, for patterns of `width` and width + 1 bits."""
    n = bits.size
    entropy = _phi(bits, width) - _phi(bits, width + 1)
    chi_square = 2 * n * (math.log(2) - entropy)
    return float(special.gammaincc(2.0 ** (width - 1), chi_square / 2))


def _psi_square(bits: Bits, width: int) -> float:
    if width <= 0:
        return 0.0
    counts = np.bincount(codes(bits, width, cyclic=True), minlength=1 << width).astype(np.float64)
    return float((counts**2).sum()) * 2.0**width / bits.size - bits.size


def _phi(bits: Bits, width: int) -> float:
    counts = np.bincount(codes(bits, width, cyclic=True)).astype(np.float64)
    shares = counts[counts > 0] / bits.size
    return float((shares * np.log(shares)).sum())
