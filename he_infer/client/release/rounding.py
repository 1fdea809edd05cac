"""Rounds decrypted scores before they leave the client: to a label and probabilities of at most three digits.

CKKS decrypts to the message plus the encryption's noise, and an attacker who sees that noise may compute the secret key
(Li and Micciancio, Eurocrypt 2021). Therefore scores are rounded to the plan's precision, which the client takes from
its own part of the model, and no option outputs them; docs/protocol.md has the reasons.
"""

import math

import numpy as np
from numpy.typing import NDArray

MOST_DIGITS = 3
"""Maximum number of decimal places of a probability."""


def round_scores(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Round values to the smallest power of ten that is at least `step`; ties go to the even neighbour."""
    digits = math.floor(-math.log10(step) + 1e-9)
    return np.asarray(np.round(values, digits)) + 0.0  # no negative zero


def to_probabilities(scores: NDArray[np.float64], precision: float) -> NDArray[np.float64]:
    """Turn decrypted scores (n, classes) into probabilities (n, classes), rounded for release.

    Args:
        scores: decrypted scores.
        precision: the plan's largest error of a score.
    """
    rounded = round_scores(scores, precision)
    weights = np.exp(rounded - rounded.max(axis=1, keepdims=True))
    digits = max(1, min(MOST_DIGITS, math.floor(-math.log10(precision) + 1e-9)))
    return np.asarray(np.round(weights / weights.sum(axis=1, keepdims=True), digits))
