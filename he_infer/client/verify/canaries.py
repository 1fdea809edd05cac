"""Canaries: encrypted questions whose answers the client knows, mixed among the real ones.

A receipt says what a server claims to have computed; canaries test the claim. They are fresh encryptions under the
same plan, in the same envelopes, at random places, and nothing is done about them before the last answer is in: a
server that wants to cheat on some of its answers cannot choose those that nobody checks.
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
"""How many times the plan's precision an honest answer may be off at the most."""
_JITTER = 0.5


class ClearHead(Protocol):
    """Whatever evaluates the head in the clear: `he_infer.head.layers.Head`, or a bundle's."""

    def evaluate(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, width) -> (n, classes)."""
        ...


@dataclass(frozen=True)
class Canaries:
    """Questions with their answers.

    They come from `canaries_like` where the client has the head, or from whoever has it: the model's owner may hand out
    features with their scores and keep the weights.

    Raises:
        ShapeError: not one row of scores for each row of features, or no row at all.
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
    """What became of the canaries of one call."""

    sent: int
    requests: int
    """Requests that held at least one: the number that the chance of detection depends on."""
    wrong: int

    def chance(self, share: float) -> float:
        """How likely a server that cheats on this share of its answers is to be caught; see `detection`."""
        return detection(share, self.requests)


def detection(share: float, requests: int) -> float:
    """The chance that at least one of the requests with canaries is among the answers that a server cheats on.

    1 - (1 - share)^requests, where the server decides for each answer anew. Where it picks a fixed number of the
    answers, the chance is hypergeometric, and never smaller.

    Raises:
        UsageError: a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"A share of {share} was given; expected 0 to 1.")
    return 1.0 - (1.0 - share) ** requests


def wanted(images: int, rate: float) -> int:
    """How many canaries go along with so many images at a rate: at least one, where the rate is not 0.

    Raises:
        UsageError: a rate outside 0 to 10.
    """
    if not 0 <= rate <= 10:
        raise UsageError(f"A canary rate of {rate} was given; expected 0 to 10 canaries an image, such as 0.1.")
    return math.ceil(images * rate - 1e-9)


def canaries_like(
    features: NDArray[np.floating], head: ClearHead, count: int, bound: float, rng: np.random.Generator | None = None
) -> Canaries:
    """Fresh canaries that look like given features.

    Each coordinate is taken from a random one of the given images and jittered by half of the spread of all values:
    a head that is right in one region and wrong in another is asked about the region that the images lie in.

    Args:
        features: (n, width) real features.
        head: the model's head in the clear.
        count: how many canaries.
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
    """Where the canaries stand among `images + canaries` rows that are sent `batch` a request.

    Random rows, spread so that as many requests as possible hold one: a second canary in a request tells nothing about
    the others. With one image a request, every set of rows is equally likely.

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
    """How many of the canaries' answers (c, classes) are off by more than an honest server's can be."""
    off = np.abs(answered - expected).max(axis=1) > TOLERANCE * plan.precision
    return int(off.sum())


def system_generator() -> np.random.Generator:
    """A generator whose seed a server cannot guess."""
    return np.random.default_rng(secrets.randbits(128))
