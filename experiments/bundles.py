"""The model that an experiment looks at: a bundle from a file, or one trained for the purpose, with progress."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.errors import ExperimentError
from he_infer.terminal import show_progress
from models.bundle import Bundle
from models.datasets import Dataset, Split, load
from models.metrics import compute_majority_share
from models.training.train import Epoch, Recipe, train

if TYPE_CHECKING:
    from rich.console import Console


def load_set(data: str, bundle: Path | None) -> Dataset:
    """A data set; files of a folder are resized to the size of a bundle's network, as a client does.

    Raises:
        ModelsError: there is no such set, or the file is no bundle.
        OSError: a file cannot be read.
    """
    return load(data, size=None if bundle is None else Bundle.load(bundle).preprocessing.size)


def load_or_train(
    console: "Console",
    dataset: Dataset,
    path: Path | None,
    *,
    head: str = "mlp",
    policy: str = "hidden",
    epochs: int | None = None,
    seed: int = 0,
    keep: Path | None = None,
) -> Bundle:
    """Load the bundle of a file, or train one where there is no file.

    Training says beforehand how many networks and passes it takes, and after the first pass how long.

    Args:
        console: where progress is shown.
        dataset: the set whose classes the bundle must have, or that it is trained on.
        path: a trained bundle; None: train one.
        head: kind of head to train.
        policy: `hidden` or `open`.
        epochs: passes over the training images; None: as the data set suits.
        seed: decides the training.
        keep: write the trained bundle here; None: it is not kept.

    Raises:
        ExperimentError: the file's bundle tells apart other classes than the data set has.
        ModelsError: the file is no bundle, or training failed.
        OSError: the bundle cannot be written.
    """
    if path is not None:
        bundle = Bundle.load(path)
        if bundle.classes != dataset.classes:
            raise ExperimentError(
                f"{path} tells apart {', '.join(bundle.classes)}; '{dataset.name}' has the classes "
                f"{', '.join(dataset.classes)}. Use a bundle that was trained for this set."
            )
        dataset.check_size(bundle.preprocessing.size)
        return bundle
    recipe = Recipe(epochs=epochs).suited_to(dataset)
    networks, passes = recipe.towers_for(dataset, head), recipe.epochs or 1
    several = "1 network" if networks == 1 else f"{networks} networks, one after another"
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    say(f"Training {several}, {passes} pass{'es' if passes > 1 else ''} each over {len(dataset.train)} images.")
    with show_progress("Training", networks * passes, console=console) as move:

        def show(epoch: Epoch) -> None:
            move(epoch.number, epoch.of)
            if epoch.number == 1:
                say(f"By the first pass, training takes about {format_duration(epoch.seconds * epoch.of)}.")
            elif not console.is_terminal and epoch.number % passes == 0:
                say(f"Network {epoch.number // passes} of {networks} is trained.")

        bundle = train(dataset, head=head, policy=policy, seed=seed, recipe=recipe, progress=show)
    reached = bundle.training["validation"]
    say(
        f"Trained with seed {seed}: validation accuracy {reached['accuracy']:.3f} at epoch {bundle.chosen_epochs} of "
        f"{passes}, chosen on validation only. Always naming the largest class gives "
        f"{compute_majority_share(dataset.val.labels):.3f}."
    )
    if keep is not None:
        bundle.save(keep)
        say(f"bundle: {keep}")
    return bundle


def format_duration(seconds: float) -> str:
    """A duration as text, in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


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
    """Draw `counts[label]` random images of each class, or all where there are fewer."""
    chosen: list[int] = []
    for label, count in enumerate(counts):
        own = np.flatnonzero(split.labels == label)
        chosen.extend(random.permutation(own)[: int(count)].tolist())
    return _chosen(split, sorted(chosen))


def replace_training_split(dataset: Dataset, train_split: Split) -> Dataset:
    """Replace the training images of a set."""
    return replace(dataset, train=train_split)


def _chosen(split: Split, indices: list[int]) -> Split:
    return Split(split.images[indices], split.labels[indices])
