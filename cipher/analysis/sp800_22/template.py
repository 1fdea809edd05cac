"""Template matching: the non-overlapping and the overlapping test (2.7, 2.8)."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cipher.analysis.sp800_22.bits import Bits, codes

# Probabilities of 0, 1, .. 4, and 5 or more overlapping runs of nine ones in a block of 1032 bits. Rev. 1a corrected
# them in 3.8 (after Hamano and Kaneko, 2007) but not in its reference code.
OVERLAPPING_PROBABILITIES = (0.364091, 0.185659, 0.139381, 0.100571, 0.0704323, 0.139865)
OVERLAPPING_BLOCK = 1032


@cache
def aperiodic_templates(width: int) -> tuple[int, ...]:
    """The templates of `width` bits that cannot overlap a shifted copy of themselves: 148 of them for 9 bits."""
    found = []
    for template in range(1 << width):
        shifts = range(1, width)
        if all(template >> s != template & ((1 << (width - s)) - 1) for s in shifts):
            found.append(template)
    return tuple(found)


def non_overlapping(bits: Bits, templates: tuple[int, ...], width: int, blocks: int = 8) -> NDArray[np.float64]:
    """P-values of the non-overlapping template test, 2.7, one for each of the aperiodic `templates` (first bit high).

    An aperiodic template's occurrences cannot overlap, so that counting all of them is the document's search that
    jumps behind each match; that is why one pass serves every template.

    Raises:
        ValueError: a template is not aperiodic.
    """
    if not set(templates) <= set(aperiodic_templates(width)):
        raise ValueError("the non-overlapping test takes aperiodic templates only")
    length = bits.size // blocks
    mean = (length - width + 1) / 2.0**width
    variance = length * (2.0**-width - (2 * width - 1) * 2.0 ** (-2 * width))
    chi_square = np.zeros(len(templates))
    for index in range(blocks):
        block = bits[index * length : (index + 1) * length]
        counts = np.bincount(codes(block, width), minlength=1 << width)[list(templates)]
        chi_square += (counts - mean) ** 2 / variance
    return np.asarray(special.gammaincc(blocks / 2, chi_square / 2), dtype=np.float64)


def overlapping_counts(bits: Bits, width: int, block: int, classes: int) -> NDArray[np.int64]:
    """Number of blocks that hold 0, 1, .. classes-2, and classes-1 or more overlapping runs of `width` ones."""
    blocks = bits.size // block
    rows = bits[: blocks * block].reshape(blocks, block)
    sums = np.cumsum(np.pad(rows.astype(np.int64), ((0, 0), (1, 0))), axis=1)
    matches = np.count_nonzero(sums[:, width:] - sums[:, :-width] == width, axis=1)
    return np.bincount(np.minimum(matches, classes - 1), minlength=classes)


def overlapping(bits: Bits) -> float:
    """P-value of the overlapping template test, 2.8, for nine ones in blocks of 1032 bits."""
    probabilities = np.array(OVERLAPPING_PROBABILITIES)
    counts = overlapping_counts(bits, 9, OVERLAPPING_BLOCK, probabilities.size)
    expected = counts.sum() * probabilities
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    return float(special.gammaincc((probabilities.size - 1) / 2, chi_square / 2))
