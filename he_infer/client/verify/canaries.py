"""Canaries: encrypted questions with known answers, mixed among the real ones.

A receipt says what a server claims to have computed; canaries test the claim. They are fresh encryptions under the
same plan, in the same envelopes, at random places, and the client does not react to them before the last answer is in:
a server that cheats on some of its answers cannot choose those that are not checked.
"""

import secrets

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.planning.plan import Plan
from he_infer.errors import UsageError

TOLERANCE = 4.0
"""Largest accepted error of an answer, as a multiple of the plan's precision."""


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


def wrong_rows(plan: Plan, answered: NDArray[np.float64], expected: NDArray[np.float64]) -> int:
    """Number of canary answers (c, classes) with a larger error than an honest server's answers can have."""
    off = np.abs(answered - expected).max(axis=1) > TOLERANCE * plan.precision
    return int(off.sum())


def system_generator() -> np.random.Generator:
    """Random generator, seeded by the operating system."""
    return np.random.default_rng(secrets.randbits(128))
