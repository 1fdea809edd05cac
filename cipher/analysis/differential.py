"""NPCR and UACI of two cipher images, with the critical values of Wu, Noonan and Agaian (2011).

N is the number of pixels and F the highest pixel value. Two independent ideal cipher images differ in each pixel with
probability F/(F+1), so that the number of differing pixels is binomial, which is used exactly: the normal
approximation fails where N/(F+1) is small, as for 16-bit pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cipher.analysis.pixels import Image, highest, words
from cipher.analysis.probability import binomial


@dataclass(frozen=True)
class Interval:
    """Interval, ends included, that an ideal cipher's statistic leaves with probability `size`."""

    low: float
    high: float
    size: float
    """The true level. A count takes few values where N/(F+1) is small, so it can be far below the nominal one."""

    def holds(self, value: float) -> bool:
        """Whether a statistic lies inside (up to rounding)."""
        return self.low - 1e-12 <= value <= self.high + 1e-12


def changed(first: Image, second: Image) -> int:
    """Number of pixels that differ."""
    return int(np.count_nonzero(words(first) != words(second)))


def npcr(first: Image, second: Image) -> float:
    """Number of pixels change rate: the share of pixels that differ."""
    return changed(first, second) / first.size


def uaci(first: Image, second: Image) -> float:
    """Unified average changing intensity: the mean of |difference| / F over all pixels."""
    a, b = words(first), words(second)
    distance = np.where(a > b, a - b, b - a)
    return float(distance.mean(dtype=np.float64)) / highest(first)


def npcr_expected(maximum: int) -> float:
    """Mean NPCR of an ideal cipher, F/(F+1)."""
    return maximum / (maximum + 1)


def uaci_expected(maximum: int) -> float:
    """Mean UACI of an ideal cipher, (F+2)/(3F+3)."""
    return (maximum + 2) / (3 * maximum + 3)


def uaci_deviation(pixels: int, maximum: int) -> float:
    """Standard deviation of UACI over N pixels."""
    f = float(maximum)
    return math.sqrt((f + 2) * (f * f + 2 * f + 3) / (18 * (f + 1) ** 2 * pixels * f))


def npcr_interval(pixels: int, maximum: int, alpha: float) -> Interval:
    """Two-sided acceptance interval of NPCR, exact; each tail holds at most alpha/2."""
    ideal = stats.binom(pixels, 1 / (maximum + 1))  # of unchanged pixels: a small share keeps its digits
    most = int(ideal.isf(alpha / 2))
    least = int(ideal.ppf(alpha / 2))
    if float(ideal.cdf(least - 1)) > alpha / 2:
        least -= 1
    size = float(ideal.sf(most)) + float(ideal.cdf(least - 1))
    return Interval((pixels - most) / pixels, (pixels - least) / pixels, size)


def npcr_one_sided(pixels: int, maximum: int, alpha: float) -> float:
    """The customary criterion, NPCR above this value: Wu et al.'s normal approximation, one side only."""
    f = float(maximum)
    return (f - float(stats.norm.isf(alpha)) * math.sqrt(f / pixels)) / (f + 1)


def uaci_interval(pixels: int, maximum: int, alpha: float) -> Interval:
    """Two-sided acceptance interval of UACI."""
    reach = float(stats.norm.isf(alpha / 2)) * uaci_deviation(pixels, maximum)
    centre = uaci_expected(maximum)
    return Interval(centre - reach, centre + reach, alpha)


def npcr_p_value(changed_pixels: int, pixels: int, maximum: int) -> float:
    """Exact two-sided P-value of a number of changed pixels; `pixels` may be summed over many pairs of images."""
    return binomial(pixels - changed_pixels, pixels, 1 / (maximum + 1))


def uaci_deviate(value: float, pixels: int, maximum: int) -> float:
    """UACI as a standard normal deviate."""
    return (value - uaci_expected(maximum)) / uaci_deviation(pixels, maximum)
