"""A small set and a model trained on it for a moment: enough for an experiment to run, too little for its figures."""

from pathlib import Path

import numpy as np
import pytest

from models import datasets
from models.bundle import Bundle
from models.training.train import Recipe, train


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in MedMNIST's layout: bright discs on the left or on the right, 28 x 28, two classes."""
    random = np.random.default_rng(8)
    arrays = {}
    y, x = np.mgrid[0:28, 0:28]
    for split, count in (("train", 160), ("val", 40), ("test", 60)):
        labels = np.arange(count) % 2
        centre = 9 + 10 * labels + random.normal(0, 1.5, count)
        height = random.uniform(8, 20, count)
        discs = np.exp(-((x - centre[:, None, None]) ** 2 + (y - height[:, None, None]) ** 2) / 40)
        noise = random.normal(0, 10, discs.shape)
        arrays[f"{split}_images"] = np.clip(40 + 180 * discs + noise, 0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    path = tmp_path_factory.mktemp("set") / "discs.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def small_bundle(small_set: Path) -> Path:
    """A bundle for `small_set`."""
    bundle: Bundle = train(datasets.load(small_set), width=32, hidden=8, recipe=Recipe(epochs=3))
    path = small_set.with_name("discs.hebundle")
    bundle.save(path)
    return path
