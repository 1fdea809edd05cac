"""Compares clear and encrypted scores of the same images: labels that differ, and the size of the error."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.metrics import auc, predictions, softmax


@dataclass(frozen=True)
class Agreement:
    """The comparison of one set."""

    n: int
    clear_accuracy: float
    encrypted_accuracy: float
    clear_auc: float
    encrypted_auc: float
    label_agreement: float
    """Share of the images with the same label."""
    max_abs_error: float
    """Largest difference of a score."""
    flips_beyond_error: int
    """Images whose label differs although the clear margin exceeds twice the largest error: there must be none."""
    only_clear_right: int
    only_encrypted_right: int

    @property
    def mcnemar_p(self) -> float:
        """P-value of the exact two-sided McNemar test, clear against encrypted (McNemar 1947); 1: they err alike."""
        discordant = self.only_clear_right + self.only_encrypted_right
        if discordant == 0:
            return 1.0
        smaller = min(self.only_clear_right, self.only_encrypted_right)
        tail = float(sum(math.comb(discordant, k) for k in range(smaller + 1))) / 2.0**discordant
        return min(1.0, 2 * tail)


def compare_scores(labels: NDArray[np.int64], clear: NDArray[np.float64], encrypted: NDArray[np.float64]) -> Agreement:
    """Compare scores (n, classes) of both kinds against labels (n,)."""
    plain, opened = predictions(clear), predictions(encrypted)
    error = float(np.abs(clear - encrypted).max())
    ranked = np.sort(clear, axis=1)
    margin = ranked[:, -1] - ranked[:, -2]
    return Agreement(
        n=len(labels),
        clear_accuracy=float((plain == labels).mean()),
        encrypted_accuracy=float((opened == labels).mean()),
        clear_auc=auc(labels, clear),
        encrypted_auc=auc(labels, encrypted),
        label_agreement=float((plain == opened).mean()),
        max_abs_error=error,
        flips_beyond_error=int(((plain != opened) & (margin > 2 * error)).sum()),
        only_clear_right=int(((plain == labels) & (opened != labels)).sum()),
        only_encrypted_right=int(((plain != labels) & (opened == labels)).sum()),
    )


def bootstrap_intervals(
    labels: NDArray[np.int64], scores: NDArray[np.float64], *, rounds: int = 1000, seed: int = 0
) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % percentile intervals of accuracy and AUC under resampling of the images (Efron 1979)."""
    random = np.random.default_rng(seed)
    count = len(labels)
    drawn = random.multinomial(count, np.full(count, 1 / count), size=rounds).astype(np.float64)
    right = (predictions(scores) == labels).astype(np.float64)
    return _interval(drawn @ right / count), _interval(_areas(labels, scores, drawn))


def _areas(labels: NDArray[np.int64], scores: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """The AUC, as `metrics.auc` defines it, of each resampling: `drawn` (rounds, n) says how often each image came."""
    classes = scores.shape[1]
    if classes == 2:
        ranked, wanted = (scores[:, 1] - scores[:, 0])[:, None], [1]
    else:
        ranked, wanted = softmax(scores), list(range(classes))
    areas = []
    for column, label in enumerate(wanted):
        order = np.argsort(ranked[:, column], kind="stable")
        values = ranked[order, column]
        starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
        positive = labels[order] == label
        hits = np.add.reduceat(drawn[:, order] * positive, starts, axis=1)
        misses = np.add.reduceat(drawn[:, order] * ~positive, starts, axis=1)
        below = np.cumsum(misses, axis=1) - misses / 2
        pairs = hits.sum(axis=1) * misses.sum(axis=1)
        areas.append(np.where(pairs > 0, (hits * below).sum(axis=1) / np.where(pairs > 0, pairs, 1), np.nan))
    found = np.stack(areas)
    present = np.isfinite(found)
    total = np.where(present, found, 0).sum(axis=0)
    counted = present.sum(axis=0)
    return np.where(counted > 0, total / np.maximum(counted, 1), np.nan)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    sound = values[np.isfinite(values)]
    if not len(sound):
        return math.nan, math.nan
    low, high = np.percentile(sound, [2.5, 97.5])
    return float(low), float(high)
