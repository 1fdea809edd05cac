"""Flatness of a cipher image's histogram: Pearson's chi-square over a byte's 256 values (the paper's Fig. 3)."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cipher.analysis.probability import chi_square

FREEDOM = 255
SIGNIFICANCE = 0.002
"""P in [0.001, 0.999]: too uneven and too even both count."""


def counts(octets: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count of each of the 256 byte values, (256,)."""
    return np.bincount(octets.ravel(), minlength=256)


def statistic(frequencies: NDArray[np.int64]) -> float:
    """Pearson's chi-square of 256 frequencies against equal ones; 255 degrees of freedom."""
    expected = frequencies.sum() / 256
    return float(((frequencies - expected) ** 2).sum() / expected)


def p_value(value: float, images: int = 1) -> float:
    """Two-sided P-value of a chi-square, or of a sum of them over `images` independent images."""
    return chi_square(value, FREEDOM * images)


def interval() -> tuple[float, float]:
    """Interval that the chi-square of a flat histogram stays in with probability 0.998."""
    ideal = stats.chi2(FREEDOM)
    return float(ideal.ppf(SIGNIFICANCE / 2)), float(ideal.isf(SIGNIFICANCE / 2))
