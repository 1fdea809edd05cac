"""Bundles with a pretrained extractor: its weights stay, and a head is trained on its features. Imports torch."""

from models.adopt import adopt
from models.bundle import Bundle
from models.datasets.dataset import Dataset
from models.errors import InputError
from models.extractors import efficientnet_lite
from models.importing import Progress

BACKBONES = (efficientnet_lite.NAME,)


def train_on_backbone(
    backbone: str,
    dataset: Dataset,
    *,
    size: int = efficientnet_lite.SIZE,
    head: str = "mlp",
    hidden: int = 64,
    seed: int = 0,
    prevalence: str = "training",
    policy: str = "hidden",
    name: str | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Extract features with a pretrained network, and train a head on them; `dataset.test` is not looked at.

    Args:
        backbone: one of `BACKBONES`.
        dataset: images of any size; they are cut to a square and resized to `size`, and grey ones repeated.
        size: side of the network's input in pixels, a multiple of 32.
        head: `linear`, `mlp` or `cubic`.
        hidden: size of the hidden layer.
        seed: decides the head's training.
        prevalence: see `import_model`, as for all that follow.
        policy: `hidden` or `open`.
        name: the bundle's name.
        progress: called with the number of images done and their total.

    Raises:
        InputError: there is no such network, its package is missing, or the side does not suit it.
        Also everything that `adopt` raises.
    """
    if backbone not in BACKBONES:
        raise InputError(f"There is no extractor '{backbone}'. Expected {' or '.join(BACKBONES)}.")
    if size < efficientnet_lite.GRAIN or size % efficientnet_lite.GRAIN:
        raise InputError(
            f"A side of {size} pixels does not suit {backbone}: give a multiple of {efficientnet_lite.GRAIN}."
        )
    network = efficientnet_lite.load_efficientnet_lite0()
    return adopt(
        network,
        dataset,
        size=size,
        channels=3,
        mean=efficientnet_lite.MEAN,
        std=efficientnet_lite.STD,
        head=head,
        hidden=hidden,
        seed=seed,
        prevalence=prevalence,
        policy=policy,
        name=name or f"{dataset.name}-{backbone}-{head}",
        progress=progress,
    )
