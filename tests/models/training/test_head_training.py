"""A head that is trained on given features."""

from dataclasses import replace

import numpy as np

from models.datasets import Dataset
from models.heads.prevalence import Prevalence
from models.training.head_training import FittedHead, fit_head
from tests.models.kit import toy


def fit(dataset: Dataset) -> FittedHead:
    random = np.random.default_rng(0)
    weight = random.normal(size=(1, 16))
    features, val_features = (
        random.normal(size=(len(split), 16)) + split.labels[:, None] * weight for split in (dataset.train, dataset.val)
    )
    prevalence = Prevalence.read("balanced", dataset.classes)
    return fit_head(features, val_features, dataset, kind="linear", hidden=8, seed=0, prevalence=prevalence)


def test_validation_images_of_a_handful_of_patients_calibrate_nothing() -> None:
    many, few = ({name: {"train": count} for name in toy().classes} for count in (40, 4))
    assert fit(toy()).calibration is not None
    assert fit(replace(toy(), patients=many)).calibration is not None
    assert fit(replace(toy(), patients=few)).calibration is None
