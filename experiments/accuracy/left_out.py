"""Training patients that are left out in turn, each judged by a model of the others; the test patients stay unseen."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.datasets import Dataset, Split
from models.errors import InputError
from models.metrics import softmax

TrainModel = Callable[[Dataset], Bundle]


@dataclass(frozen=True)
class LeftOut:
    """A patient, judged by a model that has seen all other training patients."""

    patient: int
    """The patient's number in `Dataset.people`."""
    kind: str
    """The class of the patient's images."""
    images: int
    recall: float
    """Share of the images of which the most probable class is right."""
    right: bool
    """Whether the class with the largest sum of probabilities over all images is right."""
    pictures: int
    """Pictures that the images are parts of."""
    pictures_right: int
    """Those of which the sum of probabilities names the right class."""


def find_patients(dataset: Dataset) -> list[int]:
    """Numbers of the training patients that can be left out: their class has others to train on.

    Raises:
        InputError: the set does not state patients and pictures, or none can be left out.
    """
    people, labels = dataset.people.get("train"), dataset.train.labels
    if people is None or "val" not in dataset.people or "train" not in dataset.pictures:
        raise InputError(
            f"'{dataset.name}' does not say which patient and which picture each image shows. Take the set 'modality', "
            "or cross-validate by images with 'he-experiments crossval'."
        )
    patients = np.unique(people)
    found = [int(one) for one in patients if len(np.unique(people[labels == _label_of(dataset, one)])) > 1]
    if not found:
        raise InputError(f"Each class of '{dataset.name}' has one training patient: none can be left out.")
    return found


def judge_left_out(dataset: Dataset, patients: list[int], train: TrainModel) -> Iterator[LeftOut]:
    """Train a model without a patient's training and validation images, and judge these training images by it.

    Args:
        dataset: states people and pictures; its test images are not looked at.
        patients: see `find_patients`.
        train: makes the model; it gets the set without the patient.
    """
    people, val_people = dataset.people["train"], dataset.people["val"]
    for patient in patients:
        own, label = people == patient, _label_of(dataset, patient)
        images = dataset.train.images[own]
        # The test split is the patient's own images too: no test image is left in the set.
        model = train(
            replace(
                dataset,
                train=_keep(dataset.train, ~own),
                val=_keep(dataset.val, val_people != patient),
                test=_keep(dataset.train, own),
                people={},
                pictures={},
                sources={},
            )
        )
        probabilities = softmax(model.scores(model.features(images)))
        pictures = dataset.pictures["train"][own]
        sums = [probabilities[pictures == one].sum(axis=0) for one in np.unique(pictures)]
        yield LeftOut(
            patient=patient,
            kind=dataset.classes[label],
            images=len(images),
            recall=float((probabilities.argmax(axis=1) == label).mean()),
            right=bool(probabilities.sum(axis=0).argmax() == label),
            pictures=len(sums),
            pictures_right=sum(int(one.argmax() == label) for one in sums),
        )


def _keep(split: Split, chosen: NDArray[np.bool_]) -> Split:
    return Split(split.images[chosen], split.labels[chosen])


def _label_of(dataset: Dataset, patient: int) -> int:
    return int(dataset.train.labels[dataset.people["train"] == patient][0])
