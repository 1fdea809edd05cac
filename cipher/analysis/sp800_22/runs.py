"""Tests of runs of equal bits: the runs test and the longest run of ones in a block (2.3, 2.4)."""

import math

import numpy as np
from scipy import special

from cipher.analysis.sp800_22.bits import Bits

# Block length, the classes' lowest and highest longest run, and the classes' probabilities, from 2.4.2 and 3.4.
_LONGEST_RUN = (
    (750_000, 10_000, 10, 16, (0.0882, 0.2092, 0.2483, 0.1933, 0.1208, 0.0675, 0.0727)),
    (6_272, 128, 4, 9, (0.1174, 0.2430, 0.2493, 0.1752, 0.1027, 0.1124)),
    (128, 8, 1, 4, (0.2148, 0.3672, 0.2305, 0.1875)),
)


def runs(bits: Bits) -> float:
    """P-value of the runs test, 2.3; 0 where the share of ones is already too far from 1/2 for it to apply."""
    n = bits.size
    ones = float(bits.mean())
    if abs(ones - 0.5) >= 2 / math.sqrt(n):
        return 0.0
    observed = 1 + int(np.count_nonzero(bits[1:] != bits[:-1]))
    spread = ones * (1 - ones)
    return math.erfc(abs(observed - 2 * n * spread) / (2 * math.sqrt(2 * n) * spread))


def longest_run(bits: Bits) -> float:
    """P-value of the longest run of ones in a block, 2.4, with the block length that the document sets for n.

    Raises:
        ValueError: fewer than 128 bits.
    """
    for least, block, low, high, probabilities in _LONGEST_RUN:
        if bits.size >= least:
            blocks = bits.size // block
            longest = _longest_per_block(bits[: blocks * block].reshape(blocks, block))
            counts = np.bincount(np.clip(longest, low, high) - low, minlength=high - low + 1)
            expected = blocks * np.array(probabilities)
            chi_square = float(((counts - expected) ** 2 / expected).sum())
            return float(special.gammaincc((high - low) / 2, chi_square / 2))
    raise ValueError(f"the longest-run test needs 128 bits or more, not {bits.size}")


def _longest_per_block(blocks: Bits) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The longest run of ones in each row of (blocks, length)."""
    ends = np.zeros((blocks.shape[0], blocks.shape[1] + 2), dtype=np.int8)
    ends[:, 1:-1] = blocks
    change = np.diff(ends, axis=1)
    # Row-major order pairs each start with its own end, since every run is closed inside its row.
    rows, starts = np.nonzero(change == 1)
    _, stops = np.nonzero(change == -1)
    longest = np.zeros(blocks.shape[0], dtype=np.int64)
    np.maximum.at(longest, rows, stops - starts)
    return longest
