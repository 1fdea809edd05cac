"""A user's own torch module as the extractor: `adopt` exports it as ONNX, and makes a bundle of that."""

import numpy as np
import torch
from torch import Tensor, nn

from models.bundle import Bundle
from models.datasets.dataset import Dataset
from models.errors import InputError
from models.extractors.export import export
from models.extractors.extractor import WIDTHS
from models.heads.trainable import HIDDEN
from models.images.preprocessing import Preprocessing
from models.importing import Normalisation, Progress, import_model

_PROBES = 16


def adopt(
    module: nn.Module,
    dataset: Dataset,
    *,
    size: int,
    channels: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    head: str = "mlp",
    hidden: int = HIDDEN,
    seed: int = 0,
    prevalence: str = "training",
    policy: str = "hidden",
    name: str | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Make a bundle of one's own extractor. Its weights stay as they are; a head is trained on its features.

    Args:
        module: (N, channels, size, size) -> (N, width), or (N, width, 1, 1) as torchvision's networks give without
            their last layer; width 16 to 4096. Load its weights first (`module.load_state_dict(...)`).
        dataset: train and validation images; the test images are not looked at.
        size: side in pixels of the module's input.
        channels: 1 or 3; those of the data set by default.
        mean: mean of each channel that the module was trained with, in display units; measured by default.
        std: standard deviation of each channel, likewise.
        head: `linear`, `mlp` or `cubic`.
        hidden: size of the hidden layer.
        seed: decides the head's training.
        prevalence: shares of the classes that the probabilities assume; see `Recipe.prevalence`.
        policy: `hidden` or `open`.
        name: the bundle's name.
        progress: called with the number of images done and their total.

    The bundle carries the module as an ONNX network, which was compared with it on validation images.

    Raises:
        InputError: the module does not give (N, width) features, or gives numbers that are not finite; images that were
            resized to another size when they were read.
        HeadError, TrainingError: as in training.
    """
    dataset.check_size(size)
    wanted = channels or dataset.channels
    normalisation = None if mean is None or std is None else Normalisation(mean, std)
    preprocessing = (
        Preprocessing.fit(dataset.train.images, size=size, channels=wanted)
        if normalisation is None
        else Preprocessing(size, wanted, "dataset", normalisation.mean, normalisation.std)
    )
    probes = preprocessing.apply(dataset.val.images[:_PROBES])
    flat = nn.Sequential(module, nn.Flatten(1)).eval()
    _check(flat, probes)
    return import_model(
        export(flat, channels=wanted, size=size, images=probes).content,
        dataset,
        normalisation=normalisation,
        layout="NCHW",
        head=head,
        hidden=hidden,
        seed=seed,
        prevalence=prevalence,
        policy=policy,
        name=name or f"{dataset.name}-{type(module).__name__.lower()}-{head}",
        progress=progress,
    )


def _check(module: nn.Module, probes: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> None:
    try:
        with torch.inference_mode():
            given = module(torch.from_numpy(probes))
    except (TypeError, AttributeError) as error:  # nn.Flatten of something that is no tensor
        raise InputError("The module must return one tensor of features, (N, width).") from error
    if not isinstance(given, Tensor) or given.ndim != 2:
        raise InputError("The module must return one tensor of features, (N, width).")
    if not WIDTHS[0] <= given.shape[1] <= WIDTHS[1]:
        raise InputError(f"The module gives {given.shape[1]} features an image. Expected {WIDTHS[0]} to {WIDTHS[1]}.")
    if not bool(torch.isfinite(given).all()):
        raise InputError("The module gives features that are not finite. Check its weights and the input's scaling.")
