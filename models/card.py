"""The model card: facts that a client needs before it relies on a model's answers. The client's part holds it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.dataset import NOT_STATED, Dataset
from models.errors import DamagedBundle
from models.metrics import Figures, compute_majority_share, softmax

VERSION = 1
ORDINAL = "ordinal-regression"
"""Task of a set whose classes are grades in order (MedMNIST's word)."""
OF_THE_HEAD = ("operating_point", "assumed_prevalence", "test")
"""Members that were measured on a head's scores, and that another head does not have."""
_CHECKED = {
    "modality": "(0008,0060) Modality",
    "body_part": "(0018,0015) Body Part Examined",
    "view": "(0018,5101) View Position",
    "photometric": "(0028,0004) Photometric Interpretation",
}
"""Members of the card's image that a DICOM header is checked against, in this order."""
_GREY = ("MONOCHROME1", "MONOCHROME2")
_Z = 1.959964
"""Quantile of the normal distribution for 95%."""


def make_card(
    dataset: Dataset, *, size: int, scores: NDArray[np.float64], site: NDArray[np.float64] | None = None
) -> dict[str, Any]:
    """The card of a model that was trained on a data set.

    Args:
        dataset: what it was trained on; its test images are not looked at.
        size: side in pixels that the network sees.
        scores: (n, classes) final scores of the validation images, from which the operating point is chosen.
        site: (classes,) shares of the classes at the place of use, if the scores assume such.
    """
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    return {
        "version": VERSION,
        "training_set": {
            "name": dataset.name,
            "digest": dataset.digest,
            "images": {name: len(split) for name, split in dataset.splits()},
        },
        "prevalence": _describe_shares(dataset.classes, counts / counts.sum()),
        **({} if site is None else {"assumed_prevalence": _describe_shares(dataset.classes, site)}),
        "task": dataset.task,
        "image": {"size": size, "channels": dataset.channels, **{name: list(v) for name, v in dataset.kinds.items()}},
        "operating_point": choose_operating_point(dataset.val.labels, scores, dataset.classes),
        "intended_use": "Not stated. Not a medical device.",
        "licence": "Not stated.",
    }


def _describe_shares(classes: tuple[str, ...], shares: NDArray[np.float64]) -> dict[str, float]:
    return {name: round(float(share), 4) for name, share in zip(classes, shares, strict=True)}


def describe_figures(
    labels: NDArray[np.int64], reached: Figures, decided: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """Figures of one split for the card, with the 95% interval of the accuracy (Wilson 1927).

    Args:
        labels: (n,) true classes.
        reached: figures of the scores; `accuracy` is that of the most probable class.
        decided: (n,) classes that the client names, see `decide`; their accuracy and mean distance in classes are
            stated besides.
    """
    low, high = wilson(round(reached.accuracy * reached.n), reached.n)
    return {
        "images": reached.n,
        "accuracy": round(reached.accuracy, 4),
        "accuracy_interval": [round(low, 4), round(high, 4)],
        "majority_share": round(compute_majority_share(labels), 4),
        "balanced_accuracy": round(reached.balanced_accuracy, 4),
        "auc": None if math.isnan(reached.auc) else round(reached.auc, 4),
        "ece": round(reached.ece, 4),
        **({} if decided is None else _describe_decisions(labels, decided)),
    }


def _describe_decisions(labels: NDArray[np.int64], decided: NDArray[np.int64]) -> dict[str, float]:
    return {
        "decided_accuracy": round(float((decided == labels).mean()), 4),
        "decided_distance": round(float(np.abs(decided - labels).mean()), 4),
    }


def choose_operating_point(
    labels: NDArray[np.int64], scores: NDArray[np.float64], classes: tuple[str, ...]
) -> dict[str, Any] | None:
    """Decision threshold for two classes: the probability from which the second is given, and its validation figures.

    It maximises sensitivity + specificity (Youden 1950), whatever the classes' shares. None for more classes, for which
    the most probable one is given, and where a class does not occur.
    """
    if len(classes) != 2 or len(set(labels.tolist())) < 2:
        return None
    probability = softmax(scores)[:, 1]
    ordered = np.unique(probability)
    candidates = np.concatenate([[0.5], (ordered[1:] + ordered[:-1]) / 2])
    sick = labels == 1
    sensitivity = (probability[sick][None] >= candidates[:, None]).mean(axis=1)
    specificity = (probability[~sick][None] < candidates[:, None]).mean(axis=1)
    best = int(np.argmax(sensitivity + specificity))  # the first of equal thresholds: 0.5 where that is as good
    return {
        "class": classes[1],
        "threshold": round(float(candidates[best]), 6),
        "criterion": "sensitivity + specificity on validation images",
        "sensitivity": round(float(sensitivity[best]), 4),
        "specificity": round(float(specificity[best]), 4),
        "images": len(labels),
    }


def check_kind(card: Mapping[str, Any], kind: Mapping[str, str]) -> str | None:
    """Reason why an image's DICOM header does not fit the model; None where it fits, or where nothing is stated.

    The modality must be one of the training images'. Body part and view must be, if every training image states one:
    a list that some images are missing from proves nothing. A colour image does not fit a model of grey ones.

    Args:
        card: the model's card.
        kind: `modality`, `body_part`, `view`, `photometric`, as `FrameImage.kind` has them.
    """
    image = card.get("image")
    if not isinstance(image, Mapping):
        return None
    for name, attribute in _CHECKED.items():
        listed, found = image.get(name), kind.get(name)
        if not found or not isinstance(listed, list):
            continue
        known = [str(value) for value in listed if value != NOT_STATED]
        partly = len(known) < len(listed)
        if name == "photometric":
            fits = partly or (found in _GREY) in {value in _GREY for value in known}
        else:
            fits = found in known or (partly and name != "modality")
        if known and not fits:
            return f"Not this model's kind: {attribute} is {found}; the model was made from {', '.join(known)}."
    return None


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95% interval of a share of `right` out of `count`."""
    if count == 0:
        return 0.0, 1.0
    share, z = right / count, _Z
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class OperatingPoint:
    """The decision of a model with two classes."""

    positive: str
    """The class that is given from the threshold on."""
    threshold: float
    """Probability of that class, 0 to 1."""


def read_operating_point(card: Mapping[str, Any], classes: tuple[str, ...]) -> OperatingPoint | None:
    """The operating point that a card states; None where it states none, or for more than two classes.

    Raises:
        DamagedBundle: the card states one that is none of this model's.
    """
    point = card.get("operating_point")
    if point is None or len(classes) != 2:
        return None
    match point:
        case {"class": str(positive), "threshold": int() | float() as threshold} if positive in classes:
            if 0 <= threshold <= 1:
                return OperatingPoint(positive, float(threshold))
    raise DamagedBundle("The model card's operating point names no class of the model, or no probability.")


def decide(card: Mapping[str, Any], classes: tuple[str, ...], probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """The classes (n,) of probabilities (n, classes).

    Two classes: by the card's operating point, if it states one. Ordered classes (`task` is `ordinal-regression`): the
    median, from which the expected distance in grades is least. Otherwise the most probable class.

    Raises:
        DamagedBundle: see `read_operating_point`.
    """
    if card.get("task") == ORDINAL and len(classes) > 2:
        # Rounded probabilities may sum to a little less than one.
        reached = probabilities.cumsum(axis=1) >= probabilities.sum(axis=1, keepdims=True) / 2 - 1e-9
        return np.asarray(reached.argmax(axis=1), dtype=np.int64)
    point = read_operating_point(card, classes)
    if point is None:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    positive = classes.index(point.positive)
    return np.where(probabilities[:, positive] >= point.threshold, positive, 1 - positive).astype(np.int64)
