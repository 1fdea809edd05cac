"""Canaries: encrypted questions with known answers, mixed among the real ones.

A receipt says what a server claims to have computed; canaries test the claim. They are fresh encryptions under the
same plan, in the same envelopes, at random places, and the client does not react to them before the last answer is in:
a server that cheats on some of its answers cannot choose those that are not checked.
"""

import math
import secrets
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.planning.plan import Plan
from he_infer.errors import ShapeError, UsageError

TOLERANCE = 4.0
"""Largest accepted error of an answer, as a multiple of the plan's precision."""
_JITTER = 0.5


class ClearHead(Protocol):
    """Evaluates the head in clear: `he_infer.head.layers.Head`, or a bundle's."""

    def evaluate(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, width) -> (n, classes)."""
        ...


@dataclass(frozen=True)
class Canaries:
    """Questions with their answers.

    They come from `canaries_like` if the client has the head. Otherwise the model's owner may publish features with
    their scores and keep the weights.

    Raises:
        ShapeError: there is not one row of scores for each row of features, or there is no row.
    """

    features: NDArray[np.float64] = field(repr=False)
    """(c, width)"""
    expected: NDArray[np.float64] = field(repr=False)
    """(c, classes), the head's scores in the clear."""

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.expected.ndim != 2 or not 0 < len(self.features) == len(self.expected):
            raise ShapeError(
                f"Canaries of the shapes {self.features.shape} and {self.expected.shape}; expected (c, width) and "
                "(c, classes) with c at least 1."
            )

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class CanaryReport:
    """Number and spread of the canaries in one call."""

    sent: int
    requests: int
    """Number of requests with at least one canary; the probability of detection depends on it."""
    wrong: int

    def chance(self, share: float) -> float:
        """Probability of detecting a server that cheats on this fraction of its answers; see `detection`."""
        return detection(share, self.requests)


def detection(share: float, requests: int) -> float:
    """Probability that a server cheats on at least one of the requests with canaries.

    It is 1 - (1 - share)^requests if the server decides independently for each answer. If it picks a fixed number of
    answers, the distribution is hypergeometric and the probability never smaller.

    Raises:
        UsageError: the share is outside of 0 to 1.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"A share of {share} was given; expected 0 to 1.")
    return 1.0 - (1.0 - share) ** requests


def wanted(images: int, rate: float) -> int:
    """Number of canaries for so many images at a rate: at least one, unless the rate is 0.

    Raises:
        UsageError: the rate is outside of 0 to 10.
    """
    if not 0 <= rate <= 10:
        raise UsageError(f"A canary rate of {rate} was given; expected 0 to 10 canaries an image, such as 0.1.")
    return math.ceil(images * rate - 1e-9)


def canaries_like(
    features: NDArray[np.floating], head: ClearHead, count: int, bound: float, rng: np.random.Generator | None = None
) -> Canaries:
    """Make new canaries that look like given features.

    Each coordinate is taken from a random image and jittered by half of the spread of all values. The canaries
    therefore test the head in the region of the images.

    Args:
        features: (n, width) real features.
        head: the model's head in the clear.
        count: number of canaries.
        bound: the model's input bound; canaries stay within it.
        rng: for tests; otherwise seeded by the operating system.
    """
    rng = rng or system_generator()
    values = np.asarray(features, dtype=np.float64)
    width = values.shape[1]
    chosen = values[rng.integers(0, len(values), (count, width)), np.arange(width)]
    jittered = np.clip(
        chosen + rng.normal(0.0, _JITTER * float(values.std()) + 1e-3 * bound, chosen.shape), -bound, bound
    )
    return Canaries(jittered, head.evaluate(jittered))


def places(images: int, canaries: int, batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose the canaries' rows among `images + canaries` rows, of which each request holds `batch`.

    The rows are random and spread so that as many requests as possible hold a canary: a second canary in a request says
    nothing about the other requests. With one image a request, every set of rows is equally likely.

    Returns:
        (canaries,) rows, sorted.
    """
    total = images + canaries
    requests = [rng.permutation(np.arange(start, min(start + batch, total))) for start in range(0, total, batch)]
    taken: list[int] = []
    for turn in range(batch):
        open_requests = [rows for rows in requests if len(rows) > turn]
        for index in rng.permutation(len(open_requests)):
            if len(taken) == canaries:
                return np.array(sorted(taken), dtype=np.int64)
            taken.append(int(open_requests[index][turn]))
    return np.array(sorted(taken), dtype=np.int64)


def wrong_rows(plan: Plan, answered: NDArray[np.float64], expected: NDArray[np.float64]) -> int:
    """Number of canary answers (c, classes) with a larger error than an honest server's answers can have."""
    off = np.abs(answered - expected).max(axis=1) > TOLERANCE * plan.precision
    return int(off.sum())


def system_generator() -> np.random.Generator:
    """Random generator, seeded by the operating system."""
    return np.random.default_rng(secrets.randbits(128))
