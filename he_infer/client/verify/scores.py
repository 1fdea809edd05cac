"""Decrypts answers to scores, and accepts only scores within the range that the model can reach.

A wrong key, random bytes or another computation decrypt to numbers spread over the whole range of the answer's modulus,
which is far wider than the range of the scores.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.answer_check import checks_hold
from he_infer.ckks.packing import unpack
from he_infer.ckks.planning.plan import Plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.verify.canaries import TOLERANCE
from he_infer.errors import NotAuthentic

SLACK = 1.0
"""Accepted distance of a score beyond its bounds, in addition to the tolerance: room for rounding in the bounds."""


def open_scores(secret_key: SecretKey, plan: Plan, parts: Sequence[bytes], images: int) -> NDArray[np.float64]:
    """Decrypt an answer to scores (images, classes).

    Raises:
        NotThisFormat: the parts are no answer of this plan.
        NotAuthentic: the answer was not encrypted for this key, or does not decrypt to numbers.
    """
    answers = secret_key.open_answer(plan, parts)
    if not checks_hold(plan, answers):
        raise NotAuthentic(
            "The server's answer does not open under this key: numbers that must be zero are not. The key file may be "
            "another one than the server has keys of, the server's key set may be another one, or the server did not "
            "compute what was asked."
        )
    scores = unpack(plan, answers, images)
    if not np.isfinite(scores).all():
        raise NotAuthentic("The server's answer does not decrypt to scores; it did not compute what was asked.")
    return scores


def count_outside(plan: Plan, scores: NDArray[np.float64], bounds: NDArray[np.float64]) -> int:
    """Number of images with a score outside of its range.

    Args:
        plan: the plan of the answer.
        scores: (n, classes).
        bounds: (classes, 2) minimum and maximum score.
    """
    room = TOLERANCE * plan.precision + SLACK
    outside = (scores < bounds[:, 0] - room) | (scores > bounds[:, 1] + room)
    return int(outside.any(axis=1).sum())


def chance_to_pass(bounds: NDArray[np.float64], reach: float, precision: float) -> float:
    """Probability that one image's scores lie within their ranges if they are uniform in [-reach, reach].

    Args:
        bounds: (classes, 2).
        reach: half of the range of numbers that an answer can decrypt to, in units of scores.
        precision: the plan's largest error of a score.
    """
    room = TOLERANCE * precision + SLACK
    return math.prod(min(1.0, float(high - low + 2 * room) / (2 * reach)) for low, high in bounds)
