"""A small whole bundle, extractor and head with random weights, and images for it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from he_infer.head.layers import Head, Linear, Polynomial
from models.bundle import Bundle
from models.extractors.cnn import Cnn, CnnConfig
from models.extractors.export import export
from models.images.preprocessing import Preprocessing

SIDE, WIDTH, HIDDEN = 24, 32, 8
CLASSES = ("nothing of note", "ground-glass opacity", "consolidation")


def small_bundle(path: Path, seed: int = 1) -> Bundle:
    """A CNN of one stage that gives 32 features, and a head 32 -> 8 -> x^2 -> 3; written to `path`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = CnnConfig(in_channels=1, size=SIDE, width=WIDTH, channels=(8,), bound=1.0)
    head = Head(
        (
            Linear(rng.normal(0, 0.3, (HIDDEN, WIDTH)), rng.normal(0, 0.1, HIDDEN)),
            Polynomial((0.0, 0.0, 1.0)),
            Linear(rng.normal(0, 0.5, (3, HIDDEN)), rng.normal(0, 0.1, 3)),
        )
    )
    bundle = Bundle(
        name="Small chest",
        classes=CLASSES,
        preprocessing=Preprocessing.plain(SIDE, 1),
        extractor=export(Cnn(config), channels=1, size=SIDE),
        head=head,
        input_bound=1.0,
    )
    bundle.save(path)
    return bundle


def small_images(folder: Path, count: int, seed: int = 2) -> list[Path]:
    """PNG files of noise, 24 x 24, 8 bit."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"scan-{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(path)
    return paths
