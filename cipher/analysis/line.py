"""A line of the evaluation: a statistic over many keys, its criterion, its source and its verdict.

The verdict: each line has up to two P-values that are exact, or asymptotic with much data: one for its
*failure rate* (each key is judged at the line's own level, and the number of keys outside is compared with that level
by the exact binomial distribution), and one for all keys *pooled* (which sees a small bias that no single key shows).
A line fails if a P-value is under `FAMILY` divided by the number of P-values in the evaluation (Bonferroni, valid
whatever the dependence), so that an ideal cipher passes a whole evaluation with probability 0.999 or more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from cipher.analysis import probability

FAMILY = 0.001
"""Probability, at most, that an ideal cipher fails a whole evaluation."""


class Verdict(StrEnum):
    """Verdict on a line."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    REPORTED = "reported"
    """A figure without a criterion."""


@dataclass(frozen=True)
class Line:
    """A line of the evaluation's table."""

    group: str
    name: str
    statistic: float
    """The mean over keys, unless the name says otherwise."""
    criterion: str
    """Criterion for a pass, in words."""
    source: str
    """Source of statistic and criterion."""
    expected: float | None = None
    """The statistic's mean for an ideal cipher."""
    low: float | None = None
    """Lower end of the interval to `high`, which a single key's statistic leaves with probability `size`."""
    high: float | None = None
    keys: int = 1
    outside: int | None = None
    """Keys whose statistic lies outside [low, high]."""
    size: float | None = None
    p_rate: float | None = None
    """Exact binomial P-value, two-sided, of `outside` among `keys` at level `size`."""
    p_pooled: float | None = None
    """P-value of all keys together."""
    verdict: Verdict = Verdict.REPORTED
    note: str = ""
    values: tuple[float, ...] = ()
    """The statistic of each key, for figures."""

    @property
    def p_values(self) -> tuple[float, ...]:
        """The P-values that are judged."""
        return tuple(p for p in (self.p_rate, self.p_pooled) if p is not None)


@dataclass(frozen=True)
class Criterion:
    """Criterion for a statistic, the same for every key."""

    text: str
    source: str
    expected: float
    low: float
    high: float
    size: float


def series(
    group: str, name: str, values: Sequence[float], criterion: Criterion, p_pooled: float, note: str = ""
) -> Line:
    """The line of one statistic over many keys."""
    tolerance = 1e-12
    outside = sum(not criterion.low - tolerance <= value <= criterion.high + tolerance for value in values)
    return Line(
        group=group,
        name=name,
        statistic=float(np.mean(values)),
        criterion=criterion.text,
        source=criterion.source,
        expected=criterion.expected,
        low=criterion.low,
        high=criterion.high,
        keys=len(values),
        outside=outside,
        size=criterion.size,
        p_rate=probability.binomial(outside, len(values), criterion.size),
        p_pooled=p_pooled,
        note=note,
        values=tuple(float(value) for value in values),
    )


def deviates_p(deviates: Sequence[float]) -> float:
    """Pooled P-value of standard normal deviates: of their mean and of their spread, whichever is worse, doubled."""
    return min(1.0, 2 * min(probability.mean(deviates), probability.spread(deviates)))


def exact(
    group: str, name: str, statistic: float, passed: bool, *, criterion: str, source: str, keys: int = 1, note: str = ""
) -> Line:
    """A line whose criterion is met or not, without chance."""
    verdict = Verdict.PASS if passed else Verdict.FAIL
    return Line(group, name, statistic, criterion, source, keys=keys, verdict=verdict, note=note)


def threshold(lines: Iterable[Line]) -> float:
    """Threshold for each P-value of these lines: FAMILY divided by their number."""
    count = sum(len(line.p_values) for line in lines)
    return FAMILY / max(count, 1)


def judge(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Give every line with P-values its verdict; other lines keep theirs."""
    limit = threshold(lines)
    return tuple(
        replace(line, verdict=Verdict.PASS if min(line.p_values) >= limit else Verdict.FAIL) if line.p_values else line
        for line in lines
    )
