"""Shannon entropy of a cipher image's bytes against what N uniformly random bytes have, not against a round number.

N random bytes do not reach 8 bits: their mean is about 8 - 255 / (2 N ln 2) = 8 - 0.7213 * 255 / N (Miller, 1955),
which is 7.9888 for 16384 of them. 2 N ln 2 (8 - H) is the likelihood ratio statistic G of the flat histogram: it is
chi-square with 255 degrees of freedom, once Williams' correction (1976) has mended its small-sample bias.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cipher.analysis.probability import chi_square

FREEDOM = 255
SIGNIFICANCE = 0.002


def shannon(frequencies: NDArray[np.int64]) -> float:
    """Entropy in bits a byte of 256 frequencies."""
    shares = frequencies[frequencies > 0] / frequencies.sum()
    return abs(float((shares * np.log2(shares)).sum()))


def expected(count: int) -> float:
    """Mean entropy of `count` uniformly random bytes."""
    return 8 - FREEDOM * _correction(count) / (2 * count * math.log(2))


def statistic(entropy: float, count: int) -> float:
    """G, Williams-corrected: chi-square with 255 degrees of freedom for random bytes."""
    return 2 * count * math.log(2) * (8 - entropy) / _correction(count)


def p_value(value: float, images: int = 1) -> float:
    """Two-sided P-value of G, or of its sum over `images` independent images."""
    return chi_square(value, FREEDOM * images)


def interval(count: int) -> tuple[float, float]:
    """What the entropy of `count` random bytes stays in with probability 0.998."""
    ideal = stats.chi2(FREEDOM)
    scale = _correction(count) / (2 * count * math.log(2))
    return (
        8 - float(ideal.isf(SIGNIFICANCE / 2)) * scale,
        8 - float(ideal.ppf(SIGNIFICANCE / 2)) * scale,
    )


def _correction(count: int) -> float:
    return 1 + 257 / (6 * count)
