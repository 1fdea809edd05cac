"""Temperature and offsets of the scores, fitted on validation images and folded into the head's last layer.

Source: Guo et al. 2017 ("temperature scaling"), with one offset a class, which is Platt's scaling for two classes.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from he_infer.head.layers import Head, Linear

_PULL = 0.02
"""Weight of the penalty towards no change: few or perfectly separated validation images must not decide much."""
_FEWEST = 50
"""Offsets are fitted only where every class has so many validation images: with fewer, chance would decide them."""
_LARGEST = 4.0
"""Scores are not scaled up beyond this factor; perfectly separated images would ask for infinity."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """scores -> factor * scores + offsets; one factor, so that no pair of classes is treated otherwise."""

    factor: float
    offsets: NDArray[np.float64] = field(repr=False)

    def applied(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated scores (N, classes)."""
        return self.factor * scores + self.offsets

    def folded(self, head: Head) -> Head:
        """The head whose scores are calibrated: the same layers, with another last one."""
        last = head.layers[-1]
        if not isinstance(last, Linear):  # always so; the check is for the type checker
            raise TypeError("a head ends with a linear layer")
        return Head((*head.layers[:-1], Linear(self.factor * last.weight, self.factor * last.bias + self.offsets)))

    def to_json(self) -> dict[str, Any]:
        """The members that a bundle records."""
        return {"factor": round(self.factor, 6), "offsets": [round(v, 6) for v in self.offsets.tolist()]}


def calibrated(
    scores: NDArray[np.float64], labels: NDArray[np.int64], weight: NDArray[np.float64] | None = None
) -> Calibration:
    """Fit factor and offsets by cross-entropy.

    Args:
        scores: (N, classes) of the validation images.
        labels: (N,).
        weight: weight of each class, (classes,); None: each image counts alike.
    """
    given = np.asarray(scores, dtype=np.float64)
    count, classes = given.shape
    shares = np.ones(count) if weight is None else np.asarray(weight, dtype=np.float64)[labels]
    shares = shares / shares.sum()
    right = np.zeros_like(given)
    right[np.arange(count), labels] = 1

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scaled = np.exp(values[0]) * given
        logarithms = log_softmax(scaled + values[1:], axis=1)
        error = shares[:, None] * (np.exp(logarithms) - right)
        value = -(shares * logarithms[np.arange(count), labels]).sum() + _PULL * (values**2).sum()
        return float(value), np.array([(error * scaled).sum(), *error.sum(axis=0)]) + 2 * _PULL * values

    enough = np.bincount(labels, minlength=classes).min() >= _FEWEST
    bounds = [(None, None), *[(None, None) if enough else (0.0, 0.0)] * classes]
    found = minimize(loss, np.zeros(1 + classes), jac=True, method="L-BFGS-B", bounds=bounds).x
    factor = float(np.clip(np.exp(found[0]), 1 / _LARGEST, _LARGEST))
    return Calibration(factor, found[1:] - found[1:].mean())


def fit_calibration(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    weight: NDArray[np.float64] | None,
    *,
    prevalence: str = "balanced",
    fit: bool = True,
) -> Calibration | None:
    """Temperature and offsets for a prevalence; None where scores stay as they are.

    Args:
        scores: (N, classes) of the validation images.
        labels: (N,).
        weight: weight of each class in the training's loss, (classes,); None: each image counted alike.
        prevalence: shares of the classes that the probabilities assume. `balanced`: equal ones, as such weights imply.
            `training`: those of the training images; the offsets undo the weights.
        fit: whether the validation images decide temperature and offsets; otherwise only the weights are undone.
    """
    if prevalence == "balanced" or weight is None:
        return calibrated(scores, labels, weight) if fit else None
    # A loss that weighs class c by w_c teaches scores of shares proportional to w_c n_c; dividing by w_c undoes it.
    shift = -np.log(np.maximum(weight, 1e-9))
    shift = np.where(weight > 0, shift - shift[weight > 0].mean(), 0.0)
    found = calibrated(scores + shift, labels) if fit else Calibration(1.0, np.zeros(len(shift)))
    return Calibration(found.factor, found.factor * shift + found.offsets)
