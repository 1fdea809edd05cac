"""Shannon entropy of bytes, and its expected value for random bytes of the same length."""

import math

import numpy as np
from numpy.typing import NDArray


def compute_histogram_entropy(counts: NDArray[np.int64]) -> float:
    """Shannon entropy of a histogram (256,) of byte values, in bits a byte; 0 for no bytes."""
    total = int(counts.sum())
    if not total:
        return 0.0
    share = counts[counts > 0] / total
    return float(-(share * np.log2(share)).sum())


def compute_entropy(data: bytes) -> float:
    """Shannon entropy of the byte histogram of `data`, in bits a byte; 0 for no bytes."""
    return compute_histogram_entropy(np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256))


def compute_expected_entropy(length: int) -> float:
    """Expected entropy of `length` uniformly random bytes, in bits a byte.

    Below 8 because a histogram of finitely many bytes is never flat: with c ~ Binomial(n, 1/256) the count of one byte
    value, E[H] = log2(n) - (256 / n) E[c log2 c]; for large n that is 8 - 255 / (2 n ln 2) (Miller 1955).
    """
    if length <= 0:
        return 0.0
    if length > 100_000:
        return 8.0 - 255.0 / (2.0 * length * math.log(2.0))
    p = 1.0 / 256.0
    spread = 12.0 * math.sqrt(length * p) + 12.0
    counts = np.arange(2, min(length, int(length * p + spread)) + 1, dtype=np.float64)
    if counts.size == 0:
        return math.log2(length)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, length + 1, dtype=np.float64)))])
    chosen = counts.astype(np.int64)
    log_mass = (
        log_factorial[length]
        - log_factorial[chosen]
        - log_factorial[length - chosen]
        + counts * math.log(p)
        + (length - counts) * math.log1p(-p)
    )
    return math.log2(length) - 256.0 / length * float((np.exp(log_mass) * counts * np.log2(counts)).sum())
