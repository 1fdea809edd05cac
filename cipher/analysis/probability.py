"""P-values shared by the measures. Every one is two-sided unless its name says otherwise."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def normal(z: float) -> float:
    """P-value of a standard normal deviate."""
    return float(2 * stats.norm.sf(abs(z)))


def chi_square(value: float, freedom: float) -> float:
    """P-value of a chi-square statistic: too uneven and too even both count."""
    return min(1.0, 2 * float(min(stats.chi2.sf(value, freedom), stats.chi2.cdf(value, freedom))))


def binomial(successes: int, trials: int, share: float) -> float:
    """Exact P-value of a count: twice the smaller tail, at most 1.

    Twice the smaller tail rather than the sum of all less likely outcomes, since it needs no search over the
    millions of outcomes that pixels and bits have.
    """
    lower = float(stats.binom.cdf(successes, trials, share))
    upper = float(stats.binom.sf(successes - 1, trials, share))
    return min(1.0, 2 * min(lower, upper))


def spread(deviates: ArrayLike) -> float:
    """P-value that independent standard normal deviates have variance 1 about 0: their sum of squares."""
    z: NDArray[np.float64] = np.asarray(deviates, dtype=np.float64)
    return chi_square(float((z**2).sum()), z.size)


def mean(deviates: ArrayLike) -> float:
    """P-value that independent standard normal deviates have mean 0."""
    z: NDArray[np.float64] = np.asarray(deviates, dtype=np.float64)
    return normal(float(z.sum()) / float(np.sqrt(z.size)))
