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
from models.heads.prevalence import Prevalence

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

    enough = _has_enough(labels, classes)
    bounds = [(None, None), *[(None, None) if enough else (0.0, 0.0)] * classes]
    found = minimize(loss, np.zeros(1 + classes), jac=True, method="L-BFGS-B", bounds=bounds).x
    factor = float(np.clip(np.exp(found[0]), 1 / _LARGEST, _LARGEST))
    return Calibration(factor, found[1:] - found[1:].mean())


def fit_calibration(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    weight: NDArray[np.float64] | None,
    *,
    prevalence: Prevalence,
    shares: NDArray[np.float64],
    fit: bool = True,
) -> Calibration | None:
    """Temperature and offsets for a prevalence; None where scores stay as they are.

    With a site's shares the scores are calibrated for the shares that the images have, and then moved by
    log(site / images): Bayes' rule for images that differ from the training images in these shares alone (Saerens et
    al. 2002).

    Args:
        scores: (N, classes) of the validation images.
        labels: (N,).
        weight: weight of each class in the training's loss, (classes,); None: each image counted alike.
        prevalence: shares of the classes that the probabilities assume. Equal ones are implied by weights that make
            each class count alike; for the others the offsets undo the weights.
        shares: (classes,) shares of the training images.
        fit: whether the validation images decide temperature and offsets; otherwise only the weights are undone.
    """
    if prevalence.balanced or (weight is None and prevalence.site is None):
        return calibrated(scores, labels, weight) if fit else None
    # A loss that weighs class c by w_c teaches scores of shares proportional to w_c n_c; dividing by w_c undoes it.
    known = shares > 0
    shift = np.zeros(len(shares)) if weight is None else -np.log(np.where(known, weight, 1.0))
    shift = np.where(known, shift - shift[known].mean(), 0.0)
    found = calibrated(scores + shift, labels) if fit else Calibration(1.0, np.zeros(len(shift)))
    offsets = found.factor * shift + found.offsets
    if prevalence.site is not None:
        # Fitted offsets follow the shares of the images that they were fitted on.
        seen = _count_shares(labels, len(shares)) if fit and _has_enough(labels, len(shares)) else shares
        offsets = offsets + np.where(known, np.log(prevalence.site / np.where(known, seen, 1.0)), 0.0)
    return Calibration(found.factor, offsets)


def _count_shares(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    return np.bincount(labels, minlength=classes) / len(labels)


def _has_enough(labels: NDArray[np.int64], classes: int) -> bool:
    """Whether every class has the validation images that offsets are fitted on."""
    return bool(np.bincount(labels, minlength=classes).min() >= _FEWEST)
