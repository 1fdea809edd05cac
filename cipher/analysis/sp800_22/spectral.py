"""The discrete Fourier transform test (2.6)."""

import math

import numpy as np
from scipy import fft

from cipher.analysis.sp800_22.bits import Bits


def spectral(bits: Bits) -> float:
    """P-value of the spectral test, 2.6: whether 95 % of the first n/2 peaks lie below the 95 % threshold."""
    n = bits.size
    peaks = np.abs(fft.rfft(2.0 * bits - 1.0))[: n // 2]
    below = int(np.count_nonzero(peaks < math.sqrt(math.log(1 / 0.05) * n)))
    distance = (below - 0.95 * n / 2) / math.sqrt(n * 0.95 * 0.05 / 4)
    return math.erfc(abs(distance) / math.sqrt(2))
