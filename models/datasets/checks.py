"""Checks whether a set can be learned from: errors for unusable data, notes for facts that a reader must know."""

import unicodedata
from collections import Counter

import numpy as np

from models.datasets.dataset import Dataset
from models.errors import BadContents
from models.images.values import count_not_finite

_IMBALANCE = 20
"""A class this many times rarer than the largest gets a note: accuracy then says little about it."""
_FEW = 10
"""A class with fewer images in a split gets a note: its figures then depend on chance."""

_NOT_SHOWN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, halves of surrogate pairs (bytes that are not UTF-8), line breaks."""


def checked(dataset: Dataset) -> Dataset:
    """The set with notes on overlap, imbalance and rare classes.

    Raises:
        BadContents: a class name that cannot be shown, an empty split, a single class, shapes or labels that contradict
            each other, pixels that are not numbers, a class that is tested but never trained on.
    """
    _check_names(dataset)
    for name, split in dataset.splits():
        _check_split(dataset, name)
        if len(split) == 0:
            raise BadContents(
                f"The {name} split of '{dataset.name}' is empty. Training, validation and test images are all needed: "
                "add images, or change the shares of the splits."
            )
    present = {name: set(np.unique(split.labels).tolist()) for name, split in dataset.splits()}
    if len(present["train"]) < 2:
        only = ", ".join(dataset.classes[label] for label in present["train"])
        raise BadContents(
            f"'{dataset.name}' holds a single class in its training images ({only}). A classifier needs at least two: "
            "check the labels or the folders."
        )
    for name in ("val", "test"):
        unseen = present[name] - present["train"]
        if unseen:
            listed = ", ".join(dataset.classes[label] for label in sorted(unseen))
            raise BadContents(
                f"The {name} split of '{dataset.name}' holds classes without a training image: {listed}. "
                "Add training images of them, or leave these images out."
            )
    return dataset.with_notes(*_overlaps(dataset), *_rarities(dataset))


def _check_names(dataset: Dataset) -> None:
    """Refuse class names that no report can show: blank, with line breaks, control characters or broken bytes."""
    for name in dataset.classes:
        if not name.strip() or any(unicodedata.category(character) in _NOT_SHOWN for character in name):
            raise BadContents(
                f"'{dataset.name}' has a class called {name!a}. Reports show class names: give it a name in UTF-8 "
                "without line breaks and control characters."
            )


def _check_split(dataset: Dataset, name: str) -> None:
    split = dict(dataset.splits())[name]
    images, labels = split.images, split.labels
    where = f"the {name} split of '{dataset.name}'"
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise BadContents(
            f"The images in {where} have the shape {images.shape}. Expected (N, H, W) for grey or (N, H, W, 3) for "
            "colour."
        )
    if images.shape[1:] != dataset.train.images.shape[1:]:
        raise BadContents(
            f"The images in {where} have the shape {images.shape[1:]}, those of the train split "
            f"{dataset.train.images.shape[1:]}. All splits must have one size: resize them alike."
        )
    if len(images) != len(labels):
        raise BadContents(f"There are {len(images)} images but {len(labels)} labels in {where}: one label an image.")
    if images.dtype.kind == "f":
        bad = count_not_finite(images)
        if bad:
            raise BadContents(
                f"{bad} of the {len(images)} images in {where} hold pixels that are not numbers (NaN or infinite). "
                "Replace these pixels or leave the images out."
            )
    elif images.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise BadContents(f"The images in {where} are of type {images.dtype}. Expected uint8, uint16 or float.")
    if len(labels) and (labels.min() < 0 or labels.max() >= len(dataset.classes)):
        raise BadContents(
            f"The labels in {where} run from {labels.min()} to {labels.max()}, but there are {len(dataset.classes)} "
            f"classes. Labels must lie in 0..{len(dataset.classes) - 1}."
        )


def _overlaps(dataset: Dataset) -> list[str]:
    """Notes on images that lie in two splits, and on equal images with different labels."""
    digests = {name: split.digests() for name, split in dataset.splits()}
    notes = []
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        known = set(digests[one])
        doubled = sum(digest in known for digest in digests[other])
        if doubled:
            notes.append(
                f"{doubled} of the {len(digests[other])} {other} images also lie, pixel for pixel, in the {one} split."
            )
    labels: dict[bytes, set[int]] = {}
    for name, split in dataset.splits():
        for digest, label in zip(digests[name], split.labels.tolist(), strict=True):
            labels.setdefault(digest, set()).add(label)
    contradictory = sum(len(found) > 1 for found in labels.values())
    if contradictory:
        notes.append(f"{contradictory} image(s) appear more than once with different labels.")
    return notes


def _rarities(dataset: Dataset) -> list[str]:
    notes = []
    counts = Counter(dataset.train.labels.tolist())
    absent = [name for label, name in enumerate(dataset.classes) if label not in counts]
    if absent:
        notes.append(f"No image at all bears these labels: {', '.join(absent)}. They are kept as classes (label gap).")
    largest = max(counts.values())
    rare = [f"{dataset.classes[label]} ({n})" for label, n in sorted(counts.items()) if n * _IMBALANCE < largest]
    if rare:
        notes.append(
            f"The training classes are very uneven: {', '.join(rare)} against {largest} of the largest. Read balanced "
            "accuracy or AUC, not accuracy."
        )
    for name, split in dataset.splits():
        few = [
            f"{dataset.classes[label]} ({n})" for label, n in sorted(Counter(split.labels.tolist()).items()) if n < _FEW
        ]
        if few:
            notes.append(f"The {name} split has fewer than {_FEW} images of: {', '.join(few)}.")
    return notes
