"""The one place through which decrypted scores leave: rounded, as a label and as probabilities of few digits.

CKKS decrypts to the message plus the encryption's noise, and whoever sees that noise may solve for the secret key (Li
and Micciancio, Eurocrypt 2021). So scores are rounded to the plan's precision, which the client takes from its own part
of the model, and no option gives them out; docs/protocol.md has the reasons.
"""

import math

import numpy as np
from numpy.typing import NDArray

MOST_DIGITS = 3
"""Most decimal places of a probability."""


def round_scores(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Values to the coarsest power of ten that is at least `step`; halves go to the even neighbour."""
    digits = math.floor(-math.log10(step) + 1e-9)
    return np.asarray(np.round(values, digits)) + 0.0  # no negative zero


def to_probabilities(scores: NDArray[np.float64], precision: float) -> NDArray[np.float64]:
    """Probabilities (n, classes) of decrypted scores (n, classes), of as many digits as may leave.

    Args:
        scores: as decrypted.
        precision: the plan's largest error of a score.
    """
    rounded = round_scores(scores, precision)
    weights = np.exp(rounded - rounded.max(axis=1, keepdims=True))
    digits = max(1, min(MOST_DIGITS, math.floor(-math.log10(precision) + 1e-9)))
    return np.asarray(np.round(weights / weights.sum(axis=1, keepdims=True), digits))
