"""Shannon entropy of a cipher image's bytes against what N uniformly random bytes have, not against a round number.

N random bytes do not reach 8 bits: their mean is about 8 - 255 / (2 N ln 2) = 8 - 0.7213 * 255 / N (Miller, 1955), or
7.9888 for 16384 of them. The deficiency D = 8 - H is a scaled likelihood ratio statistic of the flat histogram, so
nearly a scaled chi-square; its mean and variance are computed exactly where bytes are few, and the scale and the
degrees of freedom are fitted to them (for many bytes 255, with Williams' correction of 1976).
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cipher.analysis.probability import chi_square

SIGNIFICANCE = 0.002
_VALUES = 256
_EXACT = 65536
"""Largest number of bytes with exact moments; beyond, Williams' correction errs by less than 1e-5 of the mean."""


@dataclass(frozen=True)
class _Deficiency:
    """8 - H of random bytes: `scale` times a chi-square of `freedom` degrees of freedom."""

    scale: float
    freedom: float


def shannon(frequencies: NDArray[np.int64]) -> float:
    """Entropy in bits a byte of 256 frequencies."""
    shares = frequencies[frequencies > 0] / frequencies.sum()
    return abs(float((shares * np.log2(shares)).sum()))


def expected(count: int) -> float:
    """Mean entropy of `count` uniformly random bytes."""
    ideal = _deficiency(count)
    return 8 - ideal.scale * ideal.freedom


def p_value(entropies: list[float], count: int) -> float:
    """Two-sided P-value of the entropies of independent images of `count` bytes each, taken together."""
    ideal = _deficiency(count)
    total = sum(8 - value for value in entropies) / ideal.scale
    return chi_square(total, ideal.freedom * len(entropies))


def interval(count: int) -> tuple[float, float]:
    """Interval that the entropy of `count` random bytes stays in with probability 0.998."""
    ideal = _deficiency(count)
    reach = stats.chi2(ideal.freedom)
    low = 8 - float(reach.isf(SIGNIFICANCE / 2)) * ideal.scale
    return low, 8 - float(reach.ppf(SIGNIFICANCE / 2)) * ideal.scale


@cache
def _deficiency(count: int) -> _Deficiency:
    """The scaled chi-square whose mean and variance are those of 8 - H."""
    if count > _EXACT:
        return _Deficiency((1 + (_VALUES + 1) / (6 * count)) / (2 * count * math.log(2)), _VALUES - 1)
    mean, variance = _moments(count)
    return _Deficiency(variance / (2 * mean), 2 * mean**2 / variance)


def _moments(count: int) -> tuple[float, float]:
    """Mean and variance of 8 - H, exact but for tails beyond 12 standard deviations.

    8 - H is the sum over values of f(n) / N with f(n) = n log2(256 n / N). A multiple of n - N/256 is added to f:
    these terms sum to zero, and fewer digits cancel.
    """
    mean_count = count / _VALUES
    reach = 12 * math.sqrt(mean_count) + 12
    low, high = max(0, math.floor(mean_count - reach)), min(count, math.ceil(mean_count + reach))
    n = np.arange(low, high + 1)
    f = np.zeros(n.size)
    f[n > 0] = n[n > 0] * np.log2(n[n > 0] / mean_count)
    f -= (n - mean_count) / math.log(2)
    chance = stats.binom.pmf(n, count, 1 / _VALUES)
    # Given that one value occurs a times, another one is binomial among the count - a other bytes.
    others = stats.binom.pmf(n[np.newaxis, :], count - n[:, np.newaxis], 1 / (_VALUES - 1))
    mean = float(chance @ f)
    square = float(chance @ f**2)
    product = float((chance * f) @ (others @ f))
    variance = _VALUES * (square - mean**2) + _VALUES * (_VALUES - 1) * (product - mean**2)
    return _VALUES * mean / count, variance / count**2
