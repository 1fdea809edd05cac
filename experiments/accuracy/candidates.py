"""The heads that are compared: each is fitted on the same features, its strength chosen on validation, then calibrated.

All but one become linear and polynomial layers, which is what runs encrypted. The one with ReLU stays in the clear: the
difference to it is what a polynomial costs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.head.layers import Head
from models.heads.calibration import calibrated
from models.heads.from_sklearn import from_sklearn
from models.heads.ranges import into_range
from models.heads.trainable import RANGE, RELU
from models.metrics import softmax
from models.training.head_training import train_head

Scores = NDArray[np.float64]

_STRENGTHS = (0.001, 0.01, 0.1, 1.0)


@dataclass(frozen=True, eq=False)
class SplitFeatures:
    """Features (N, width) and labels (N,) of the splits that may be fitted on."""

    train: NDArray[Any]
    train_labels: NDArray[np.int64]
    val: NDArray[Any]
    val_labels: NDArray[np.int64]
    classes: int

    @property
    def weight(self) -> NDArray[np.float64]:
        """The weight of each class with which all classes count alike."""
        counts = np.bincount(self.train_labels, minlength=self.classes)
        present = int((counts > 0).sum())
        return np.where(counts > 0, counts.sum() / (present * np.maximum(counts, 1)), 0.0)


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A fitted head, ready to be compared."""

    head: Head | None
    """None where it runs in the clear only."""
    scores: Callable[[NDArray[Any]], Scores]
    """Features (N, width) -> scores (N, classes), in the clear."""
    allowed: float
    """Inputs of the activation are meant to lie within +-allowed."""
    chosen: dict[str, Any]
    """The strength or epoch that validation chose."""


def fit_head(name: str, features: SplitFeatures, *, deployed: Head, seed: int) -> FittedHead:
    """Fit one of `grid.CANDIDATES`.

    Args:
        name: its key.
        features: training and validation features; the test split is not handed in.
        deployed: the head that was trained together with the extractor.
        seed: decides weights and order of the networks.

    Raises:
        HeadError: the head cannot be made, for example since its activation leaves its range.
        TrainingError: the training diverged.
        KeyError: an unknown name.
    """
    if name == "deployed":
        return FittedHead(deployed, deployed.evaluate, RANGE, {})
    if name in ("mlp", "cubic", RELU):
        trained = train_head(
            features.train,
            features.train_labels,
            features.val,
            features.val_labels,
            classes=features.classes,
            kind=name,
            seed=seed,
        )
        if trained.head is None:
            calibration = calibrated(trained.evaluate(features.val), features.val_labels, features.weight)
            return FittedHead(None, lambda x: calibration.applied(trained.evaluate(x)), RANGE, {})
        return _ready(trained.head, features, {})
    best: tuple[float, Head, float] | None = None
    for strength, estimator in _machines(name, features):
        estimator.fit(features.train, features.train_labels)
        head = from_sklearn(estimator).head
        calibration = calibrated(head.evaluate(features.val), features.val_labels, features.weight)
        loss = _loss(calibration.applied(head.evaluate(features.val)), features)
        if best is None or loss < best[0]:
            best = (loss, head, strength)
    if best is None:
        raise KeyError(name)
    return _ready(best[1], features, {"strength": best[2]})


def _ready(head: Head, features: SplitFeatures, chosen: dict[str, Any]) -> FittedHead:
    calibration = calibrated(head.evaluate(features.val), features.val_labels, features.weight)
    ranged, _ = into_range(calibration.folded(head), features.train, RANGE)
    return FittedHead(ranged, ranged.evaluate, RANGE, chosen)


def _loss(scores: Scores, features: SplitFeatures) -> float:
    """Class-balanced cross-entropy on validation."""
    shares = features.weight[features.val_labels]
    right = softmax(scores)[np.arange(len(scores)), features.val_labels]
    return float(-(shares * np.log(np.maximum(right, 1e-300))).sum() / shares.sum())


def _machines(name: str, features: SplitFeatures) -> Iterator[tuple[float, Any]]:
    """scikit-learn's classifiers of one kind over a range of strengths."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import SVC, LinearSVC

    if name == "lda":
        # More features than images of a class are usual, hence the shrunken covariance (Ledoit and Wolf 2004).
        yield 0.0, LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        return
    for strength in _STRENGTHS:
        if name == "logistic":
            yield strength, LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
        elif name == "svm":
            yield strength, LinearSVC(C=strength / 10, class_weight="balanced", dual=False, max_iter=5000)
        elif name == "quadratic":
            machine = SVC(kernel="poly", degree=2, coef0=1.0, C=strength, class_weight="balanced")
            yield strength, machine if features.classes == 2 else OneVsRestClassifier(machine)
