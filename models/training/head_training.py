"""Trains a head alone, on given features: fast, and the same for every head that is compared."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from he_infer.head.layers import Head
from models.datasets.dataset import Dataset
from models.errors import HeadError, TrainingError
from models.feature_table import evaluate_table
from models.heads.calibration import Calibration, fit_calibration
from models.heads.prevalence import Prevalence
from models.heads.ranges import Range, into_range
from models.heads.trainable import HIDDEN, RANGE, RELU, TrainableHead, make
from models.metrics import figures
from models.training.schedule import schedule_one_cycle
from models.training.threads import one_thread

_STEPS = 400
"""Least number of steps: on a few hundred images 40 passes are too few for a hidden layer."""


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A head and its figures on validation."""

    head: Head | None
    """None where it cannot be exported (ReLU)."""
    module: TrainableHead
    """The same head as it was trained, at the chosen epoch."""
    val_accuracy: float
    val_loss: float
    """Class-balanced cross-entropy; the epoch was chosen by it."""

    def evaluate(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Scores (N, classes) of features (N, width), in the clear."""
        if self.head is not None:
            return self.head.evaluate(features)
        return _in_float64(self.module, features)


def compute_class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Weight of each class (classes,) in the loss, so that each class counts alike; 0 for one that does not occur."""
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    return np.where(counts > 0, counts.sum() / ((counts > 0).sum() * np.maximum(counts, 1)), 0.0)


def train_head(
    features: NDArray[Any],
    labels: NDArray[np.int64],
    val_features: NDArray[Any],
    val_labels: NDArray[np.int64],
    *,
    classes: int,
    kind: str = "mlp",
    hidden: int = HIDDEN,
    seed: int = 0,
    epochs: int | None = None,
) -> TrainedHead:
    """Fit a head to features (N, width), choosing the epoch on the validation features.

    Without `epochs`, so many that there are enough steps: 40 for large sets, more for small ones. Epochs at which a
    polynomial's inputs leave the range that it may be evaluated on are not chosen.

    Raises:
        TrainingError: the training diverged, or no epoch kept the range.
        HeadError: an unknown kind of head.
    """
    with one_thread():
        return _train(features, labels, val_features, val_labels, classes, kind, hidden, seed, epochs)


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A head that is ready for a bundle: calibrated, and its polynomials' inputs in range."""

    head: Head
    calibration: Calibration | None
    ranges: list[Range]
    val_accuracy: float


def fit_head(
    features: NDArray[Any],
    val_features: NDArray[Any],
    dataset: Dataset,
    *,
    kind: str,
    hidden: int,
    seed: int,
    prevalence: Prevalence,
) -> FittedHead:
    """Train a head on features of a set's training images, calibrate it on the validation images, and scale it.

    Validation images of a handful of patients, whose other images were trained on, cannot calibrate the scores, so for
    such a set only the weights of the classes are undone.

    Args:
        features: (n, width) of the training images.
        val_features: (m, width) of the validation images.
        dataset: has the labels.
        kind: `linear`, `mlp` or `cubic`.
        hidden: size of the hidden layer.
        seed: decides the training.
        prevalence: see `fit_calibration`.

    Raises:
        HeadError: an unknown kind of head, or one that cannot be exported.
        TrainingError: the training diverged, or no epoch kept the range.
    """
    classes, labels, val_labels = len(dataset.classes), dataset.train.labels, dataset.val.labels
    trained = train_head(
        features, labels, val_features, val_labels, classes=classes, kind=kind, hidden=hidden, seed=seed
    )
    if trained.head is None:
        raise HeadError(f"A head of the kind '{kind}' cannot be exported. Expected linear, mlp or cubic.")
    head, scores = trained.head, evaluate_table(trained.head, val_features)
    weight = compute_class_weights(labels, classes)
    shares = np.bincount(labels, minlength=classes) / len(labels)
    calibration = fit_calibration(
        scores, val_labels, weight, prevalence=prevalence, shares=shares, fit=not dataset.few_patients
    )
    if calibration is not None:
        head = calibration.folded(head)
    head, ranges = into_range(head, features, RANGE)
    return FittedHead(head, calibration, ranges, trained.val_accuracy)


def _train(
    features: NDArray[Any],
    labels: NDArray[np.int64],
    val_features: NDArray[Any],
    val_labels: NDArray[np.int64],
    classes: int,
    kind: str,
    hidden: int,
    seed: int,
    epochs: int | None,
) -> TrainedHead:
    x, y = torch.from_numpy(np.asarray(features, dtype=np.float32)), torch.from_numpy(labels)
    val_x, val_y = val_features, torch.from_numpy(val_labels)
    weight = torch.from_numpy(compute_class_weights(labels, classes)).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = make(kind, x.shape[1], classes, hidden)
    batch = min(128, len(y))
    epochs = epochs or max(40, -(-_STEPS // (len(y) // batch)))
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.1)
    schedule = schedule_one_cycle(optimiser, 2e-3, epochs * (len(y) // batch))
    best: TrainedHead | None = None
    outside: HeadError | None = None
    for _ in range(epochs):
        head.train()
        order = torch.randperm(len(y), generator=generator)
        for step in range(len(y) // batch):
            chosen = order[step * batch : (step + 1) * batch]
            scores, penalty = head(x[chosen])
            loss = functional.cross_entropy(scores, y[chosen], weight=weight, label_smoothing=0.05) + 0.05 * penalty
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        head.eval()
        exported = None if kind == RELU else head.export()
        if exported is not None:
            try:
                into_range(exported, x.numpy(), RANGE)
            except HeadError as error:  # it cannot be exported, however good it is on validation
                outside = error
                continue
        reached = _in_float64(head, val_x) if exported is None else evaluate_table(exported, val_x)
        val_loss = float(functional.cross_entropy(torch.from_numpy(reached), val_y, weight=weight.double()))
        if math.isfinite(val_loss) and (best is None or val_loss < best.val_loss):
            best = TrainedHead(exported, copy.deepcopy(head), figures(val_labels, reached).accuracy, val_loss)
    if best is None and outside is not None:
        raise TrainingError(f"No epoch gave a head that can be computed under encryption. {outside}")
    if best is None:
        raise TrainingError("Training the head diverged: its loss is not a number. Check the features' scale.")
    return best


def _in_float64(module: TrainableHead, features: NDArray[Any]) -> NDArray[np.float64]:
    double = copy.deepcopy(module).double().eval()
    with torch.inference_mode():
        scores, _ = double(torch.from_numpy(np.asarray(features, dtype=np.float64)))
    return np.asarray(scores.numpy(), dtype=np.float64)
