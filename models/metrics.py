"""Figures of merit of a classifier, from labels and scores. Uses numpy and scikit-learn, and nothing of the models."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Figures:
    """Figures of how well scores separate the classes."""

    n: int
    accuracy: float
    """Share of images whose highest score is that of their class."""
    auc: float
    """Area under the ROC curve; with more than two classes the mean over each class against the rest (as MedMNIST)."""
    balanced_accuracy: float
    """Mean of the recalls of the classes that occur."""
    recall: tuple[float, ...]
    """Share of each class's images that are recognised; NaN where the class does not occur."""
    ece: float
    """Expected calibration error over 15 bins of confidence (Guo et al. 2017)."""


def softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities (N, classes) from scores (N, classes)."""
    values = np.asarray(scores, dtype=np.float64)
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def predictions(scores: NDArray[Any]) -> NDArray[np.int64]:
    """The class of the highest score; the first one of equal scores."""
    return np.asarray(np.argmax(scores, axis=1), dtype=np.int64)


def compute_majority_share(labels: NDArray[np.int64]) -> float:
    """Share of the most frequent class among labels (N,): the accuracy of always naming that class."""
    return float(np.bincount(labels).max() / len(labels))


def figures(labels: NDArray[np.int64], scores: NDArray[Any]) -> Figures:
    """All figures of one set of scores (N, classes) against labels (N,)."""
    probabilities = softmax(scores)
    predicted = predictions(scores)
    classes = probabilities.shape[1]
    right = predicted == labels
    recall = tuple(float(right[labels == c].mean()) if (labels == c).any() else float("nan") for c in range(classes))
    return Figures(
        n=len(labels),
        accuracy=float(right.mean()),
        auc=auc(labels, np.asarray(scores, dtype=np.float64)),
        balanced_accuracy=float(np.nanmean(recall)),
        recall=recall,
        ece=_ece(probabilities.max(axis=1), right),
    )


def auc(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Area under the ROC curve, macro-averaged one against the rest; NaN where a single class occurs.

    Two classes are ranked by the difference of their scores, more by the softmax probability of each class.
    """
    from sklearn.metrics import roc_auc_score

    classes = scores.shape[1]
    if classes == 2:
        ranked = (scores[:, 1] - scores[:, 0])[:, None]
        wanted = [1]
    else:
        ranked = softmax(scores)
        wanted = list(range(classes))
    areas = []
    for column, label in enumerate(wanted):
        positive = labels == label
        if positive.any() and not positive.all():
            areas.append(float(roc_auc_score(positive, ranked[:, column])))
    return float(np.mean(areas)) if areas else float("nan")


def _ece(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    bins = np.minimum((confidence * 15).astype(int), 14)
    total = 0.0
    for index in range(15):
        inside = bins == index
        if inside.any():
            total += inside.mean() * abs(float(right[inside].mean()) - float(confidence[inside].mean()))
    return float(total)
