"""Train a head alone, on features that are already there: quick, and the same for every head that is compared."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.errors import TrainingError
from models.heads import Head
from models.metrics import figures
from models.trainable import HIDDEN, make


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A head and how it fares on validation."""

    head: Head
    val_accuracy: float
    val_loss: float
    """Class-balanced cross-entropy; the epoch was chosen by it."""


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
    epochs: int = 40,
) -> TrainedHead:
    """Fit a head to features (N, width), choosing the epoch on the validation features.

    Raises:
        TrainingError: the training diverged.
        HeadError: an unknown kind of head.
    """
    x, y = torch.from_numpy(np.asarray(features, dtype=np.float32)), torch.from_numpy(labels)
    val_x, val_y = np.asarray(val_features, dtype=np.float64), torch.from_numpy(val_labels)
    counts = torch.bincount(y, minlength=classes).float()
    weight = torch.where(counts > 0, counts.sum() / ((counts > 0).sum() * counts.clamp_min(1)), counts)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = make(kind, x.shape[1], classes, hidden)
    batch = min(128, len(y))
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=2e-3, total_steps=epochs * (len(y) // batch), pct_start=0.2
    )
    best: TrainedHead | None = None
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
        exported = head.export()
        reached = exported.evaluate(val_x)
        val_loss = float(functional.cross_entropy(torch.from_numpy(reached), val_y, weight=weight.double()))
        if math.isfinite(val_loss) and (best is None or val_loss < best.val_loss):
            best = TrainedHead(exported, figures(val_labels, reached).accuracy, val_loss)
    if best is None:
        raise TrainingError("Training the head diverged: its loss is not a number. Check the features' scale.")
    return best
