"""The model that an experiment looks at: a bundle from a file, or one trained for the purpose, with progress."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.errors import ExperimentError
from he_infer.terminal import show_progress
from models.bundle import Bundle
from models.datasets import Dataset, Split
from models.training.train import Recipe, train

if TYPE_CHECKING:
    from rich.console import Console


def load_or_train(
    console: "Console",
    dataset: Dataset,
    path: Path | None,
    *,
    head: str = "mlp",
    policy: str = "hidden",
    epochs: int | None = None,
    seed: int = 0,
) -> Bundle:
    """The bundle of a file, or a freshly trained one where there is no file.

    Raises:
        ExperimentError: the file's bundle tells apart other classes than the data set has.
        ModelsError: the file is no bundle, or training failed.
    """
    if path is not None:
        bundle = Bundle.load(path)
        if bundle.classes != dataset.classes:
            raise ExperimentError(
                f"{path} tells apart {', '.join(bundle.classes)}; '{dataset.name}' has the classes "
                f"{', '.join(dataset.classes)}. Use a bundle that was trained for this set."
            )
        return bundle
    recipe = Recipe(epochs=epochs).suited_to(dataset)
    passes = (recipe.epochs or 1) * recipe.towers_for(dataset, head)
    with show_progress(f"Training on {len(dataset.train)} images", passes, console=console) as step:
        return train(
            dataset, head=head, policy=policy, seed=seed, recipe=recipe, progress=lambda epoch: step(epoch.number)
        )


def split_in_halves(split: Split, random: np.random.Generator) -> tuple[Split, Split]:
    """A split cut in two at random, each class evenly, no image (pixel for pixel) in both halves."""
    digests = split.digests()
    first: list[int] = []
    second: list[int] = []
    seen: dict[bytes, list[int]] = {}
    for index in range(len(split)):
        seen.setdefault(digests[index], []).append(index)
    groups = list(seen.values())
    for label in np.unique(split.labels):
        own = [group for group in groups if split.labels[group[0]] == label]
        for rank, place in enumerate(random.permutation(len(own))):
            (first if rank % 2 == 0 else second).extend(own[place])
    return _chosen(split, sorted(first)), _chosen(split, sorted(second))


def remove_shared_images(split: Split, other: Split) -> Split:
    """The images of a split that are not, pixel for pixel, in another one."""
    taken = set(other.digests())
    return _chosen(split, [index for index, digest in enumerate(split.digests()) if digest not in taken])


def sample_by_class(split: Split, counts: NDArray[np.int64], random: np.random.Generator) -> Split:
    """So many random images of each class, as far as there are; `counts` has a number for each class."""
    chosen: list[int] = []
    for label, count in enumerate(counts):
        own = np.flatnonzero(split.labels == label)
        chosen.extend(random.permutation(own)[: int(count)].tolist())
    return _chosen(split, sorted(chosen))


def replace_training_split(dataset: Dataset, train_split: Split) -> Dataset:
    """The same set with other training images."""
    return replace(dataset, train=train_split)


def _chosen(split: Split, indices: list[int]) -> Split:
    return Split(split.images[indices], split.labels[indices])
