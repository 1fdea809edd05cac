"""All fifteen tests on one sequence, and the judgement over many sequences."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cipher.analysis.sp800_22.bits import Bits
from cipher.analysis.sp800_22.complexity import linear_complexity
from cipher.analysis.sp800_22.excursions import (
    STATES,
    VARIANT_STATES,
    Walk,
    random_excursions,
    random_excursions_variant,
)
from cipher.analysis.sp800_22.frequency import block_frequency, cumulative_sums, monobit
from cipher.analysis.sp800_22.rank import matrix_rank
from cipher.analysis.sp800_22.runs import longest_run, runs
from cipher.analysis.sp800_22.serial import approximate_entropy, serial
from cipher.analysis.sp800_22.spectral import spectral
from cipher.analysis.sp800_22.template import aperiodic_templates, non_overlapping, overlapping
from cipher.analysis.sp800_22.universal import block_length, universal

LEAST_BITS = 1_000_000
"""Least bits of a sequence, which three tests need: overlapping template, linear complexity, random excursions."""

ALPHA = 0.01
"""Level at which one sequence fails one test, 4.2.1."""

_TEMPLATE_WIDTH = 9


def _excursions(bits: Bits, test: Callable[[Walk], NDArray[np.float64]], states: int) -> NDArray[np.float64]:
    walk = Walk.of(bits)
    return test(walk) if walk.enough(bits.size) else np.full(states, np.nan)


def _universal(bits: Bits) -> float:
    length = block_length(bits.size)
    return universal(bits, length, 10 * 2**length)


_TESTS: Mapping[str, Callable[[Bits], float | tuple[float, ...] | NDArray[np.float64]]] = {
    "frequency": monobit,
    "block frequency": lambda bits: block_frequency(bits, 128),
    "cumulative sums": lambda bits: (cumulative_sums(bits), cumulative_sums(bits, backward=True)),
    "runs": runs,
    "longest run of ones": longest_run,
    "matrix rank": matrix_rank,
    "spectral": spectral,
    "non-overlapping templates": lambda bits: non_overlapping(
        bits, aperiodic_templates(_TEMPLATE_WIDTH), _TEMPLATE_WIDTH
    ),
    "overlapping template": overlapping,
    "universal": _universal,
    "approximate entropy": lambda bits: approximate_entropy(bits, 10),
    "random excursions": lambda bits: _excursions(bits, random_excursions, len(STATES)),
    "random excursions variant": lambda bits: _excursions(bits, random_excursions_variant, len(VARIANT_STATES)),
    "serial": lambda bits: serial(bits, 16),
    "linear complexity": linear_complexity,
}
NAMES = tuple(_TESTS)


def run(bits: Bits) -> dict[str, NDArray[np.float64]]:
    """P-values of all fifteen tests on one sequence, by name; several for a test with parts.

    A part that does not apply (too few cycles of the walk, 2.14.7) is NaN.

    Raises:
        ValueError: fewer than 1,000,000 bits.
    """
    if bits.size < LEAST_BITS:
        raise ValueError(f"the battery needs sequences of {LEAST_BITS} bits or more, not {bits.size}")
    return {name: np.atleast_1d(np.asarray(test(bits), dtype=np.float64)) for name, test in _TESTS.items()}


@dataclass(frozen=True)
class Verdict:
    """Result of a test over many sequences, all its parts together."""

    name: str
    parts: int
    sequences: int
    """Sequences that the test applied to."""
    passed_share: float
    """Share of P-values at or above alpha, over sequences and parts."""
    worst_share: float
    """The smallest such share among the parts."""
    p_proportion: float
    """Exact binomial P-value of the worst part's proportion of passes (two-sided), times the number of parts."""
    p_uniformity: float
    """P-value that the P-values are uniform (Kolmogorov-Smirnov), the worst part's times the number of parts."""


def judge(name: str, p_values: NDArray[np.float64]) -> Verdict | None:
    """Judge one test by its P-values (sequences, parts), as 4.2 does but with exact distributions.

    4.2.1 puts three standard errors around the proportion, which is wrong for few sequences: the exact binomial
    distribution takes its place. 4.2.2 asks for 55 sequences for a chi-square of ten classes: the exact
    Kolmogorov-Smirnov test asks for none. Both P-values are multiplied by the number of parts (Bonferroni). None if
    the test applied to no sequence.
    """
    applied = p_values[~np.isnan(p_values).any(axis=1)]
    sequences, parts = applied.shape
    if sequences == 0:
        return None
    passes = (applied >= ALPHA).sum(axis=0)
    proportion = min(float(stats.binomtest(int(k), sequences, 1 - ALPHA).pvalue) for k in np.unique(passes))
    uniformity = min(float(stats.kstest(applied[:, part], "uniform").pvalue) for part in range(parts))
    return Verdict(
        name=name,
        parts=parts,
        sequences=sequences,
        passed_share=float(passes.sum()) / applied.size,
        worst_share=float(passes.min()) / sequences,
        p_proportion=min(1.0, proportion * parts),
        p_uniformity=min(1.0, uniformity * parts),
    )
