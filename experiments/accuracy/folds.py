"""Networks of a cross-validation: trained on all but a part of the images, with their scores of that part."""

import itertools
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np
import pebble
from numpy.typing import NDArray

from experiments.accuracy.workers import start_worker, stop_pool
from he_infer.machine import interrupts_held
from models import datasets
from models.datasets import Dataset, Split
from models.errors import InputError
from models.metrics import figures, softmax
from models.training.train import Recipe, train

_INNER = 8
"""Every eighth image of a fold's training part is held out to choose the epoch."""


@dataclass(frozen=True)
class Fold:
    """A network to train, and the part of the images that it does not see."""

    data: str
    head: str
    width: int
    hidden: int
    recipe: Recipe
    folds: int
    part: int
    seed: int
    """Seed that decides the part of each image."""
    network: int
    """Seed of this network's training."""


@dataclass(frozen=True, eq=False)
class FoldScores:
    """A network's scores of the part that it has not seen."""

    part: int
    network: int
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    """(n, classes)"""


@dataclass(frozen=True)
class FoldQuality:
    """Quality of the mean of several networks' scores, averaged over the folds and every choice of networks."""

    networks: int
    auc: float
    accuracy: float
    balanced_accuracy: float
    log_loss: float
    """Cross-entropy, classes weighed alike."""


def score_all_folds(work: Sequence[Fold], jobs: int, step: Callable[[int], None]) -> list[FoldScores]:
    """Train all networks, on several processes; `step` is called with how many are done.

    Raises:
        ModelsError: the set cannot be used or cut into so many parts, or a training failed.
    """
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    done: list[FoldScores] = []
    with pebble.ProcessPool(max_workers=jobs, context=context, initializer=start_worker) as pool:
        with interrupts_held():
            futures: list[Future[FoldScores]] = [pool.schedule(score_fold, args=(one,)) for one in work]
        try:
            for future in futures:
                done.append(future.result())
                step(len(done))
        except BaseException:
            stop_pool(pool)  # Ctrl-C, or a training that failed: the others are stopped
            raise
    return done


def score_fold(fold: Fold) -> FoldScores:
    """Train one network and score the part that it has not seen."""
    seen, part = cut_fold(datasets.load(fold.data), fold.folds, fold.part, fold.seed)
    bundle = train(seen, head=fold.head, width=fold.width, hidden=fold.hidden, seed=fold.network, recipe=fold.recipe)
    return FoldScores(fold.part, fold.network, part.labels, bundle.scores(bundle.features(part.images)))


def cut_fold(dataset: Dataset, folds: int, part: int, seed: int) -> tuple[Dataset, Split]:
    """The set to train on and the part that is left out, both of training and validation images alone.

    The test split of the set returned is the part too: no test image is left in it.

    Raises:
        InputError: a class has fewer images than there are parts.
    """
    from sklearn.model_selection import StratifiedKFold

    images = np.concatenate([dataset.train.images, dataset.val.images])
    labels = np.concatenate([dataset.train.labels, dataset.val.labels])
    least = int(np.bincount(labels).min())
    if least < max(folds, _INNER):
        raise InputError(
            f"A class of '{dataset.name}' has {least} training and validation images. Cross-validation in {folds} "
            f"parts needs {max(folds, _INNER)} of each class or more."
        )
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    inside, outside = list(cut.split(images, labels))[part]
    inner = StratifiedKFold(_INNER, shuffle=True, random_state=seed)
    learned, chosen = next(iter(inner.split(images[inside], labels[inside])))

    def split(indices: NDArray[np.int64]) -> Split:
        return Split(images[indices], labels[indices])

    left = split(outside)
    return replace(dataset, train=split(inside[learned]), val=split(inside[chosen]), test=left), left


def average_networks(scored: Sequence[FoldScores], networks: int) -> list[FoldQuality]:
    """Compute the quality of one network, of the mean of two, and so on."""
    qualities = []
    for count in range(1, networks + 1):
        rows = []
        for chosen in itertools.combinations(range(networks), count):
            for part in {one.part for one in scored}:
                those = [one for one in scored if one.part == part and one.network in chosen]
                mean = np.mean([one.scores for one in those], axis=0)
                found = figures(those[0].labels, mean)
                rows.append((found.auc, found.accuracy, found.balanced_accuracy, _log_loss(those[0].labels, mean)))
        qualities.append(FoldQuality(count, *(float(value) for value in np.mean(rows, axis=0))))
    return qualities


def _log_loss(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    logarithms = -np.log(np.maximum(softmax(scores)[np.arange(len(labels)), labels], 1e-300))
    return float(np.mean([logarithms[labels == label].mean() for label in np.unique(labels)]))
