"""A user's own torch module as the extractor: `adopt` makes a bundle of it, with a head trained on its features."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.bundle import Bundle, versions
from models.card import make_card
from models.datasets.dataset import Dataset
from models.errors import InputError
from models.extractors.export import export
from models.extractors.extractor import WIDTHS
from models.extractors.foreign import Bounded
from models.feature_table import BOUND, bound_table, evaluate_table, measure_spread, tabulate
from models.guard import Guard
from models.heads.trainable import HIDDEN
from models.images.preprocessing import Preprocessing
from models.training.head_training import fit_head

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

    The bundle carries the module as an ONNX network, which was compared with it on validation images.

    Raises:
        InputError: the module does not give (N, width) features, or gives numbers that are not finite.
        HeadError, TrainingError: as in training.
    """
    wanted = channels or dataset.channels
    if mean is not None and std is not None:
        preprocessing = Preprocessing(size, wanted, "dataset", mean, std)
    else:
        preprocessing = Preprocessing.fit(dataset.train.images, size=size, channels=wanted)
    module = module.eval()
    train, val = (
        tabulate(lambda images: _extract(module, preprocessing, images), split.images)
        for split in (dataset.train, dataset.val)
    )
    width = train.shape[1]
    if not WIDTHS[0] <= width <= WIDTHS[1]:
        raise InputError(f"The module gives {width} features an image. Expected {WIDTHS[0]} to {WIDTHS[1]}.")
    mean_feature, deviation = measure_spread(train)
    extractor = Bounded(module, width).eval()
    extractor.mean.copy_(torch.from_numpy(mean_feature))
    extractor.deviation.copy_(torch.from_numpy(np.maximum(deviation, 1e-6)))
    for table in (train, val):
        bound_table(table, mean_feature, np.maximum(deviation, 1e-6))
    fitted = fit_head(train, val, dataset, kind=head, hidden=hidden, seed=seed, prevalence=prevalence)
    return Bundle(
        name=name or f"{dataset.name}-{type(module).__name__.lower()}-{head}",
        classes=dataset.classes,
        preprocessing=preprocessing,
        extractor=export(
            extractor, channels=wanted, size=size, images=preprocessing.apply(dataset.val.images[:_PROBES])
        ),
        head=fitted.head,
        input_bound=BOUND,
        policy=policy,
        training={
            "seed": seed,
            "head": head,
            "data": {"name": dataset.name, "digest": dataset.digest},
            "validation": {"accuracy": round(fitted.val_accuracy, 6)},
            "activation_range": [{"layer": r.layer, "allowed": r.allowed, "reached": r.reached} for r in fitted.ranges],
            "calibration": None if fitted.calibration is None else fitted.calibration.to_json(),
        },
        versions=versions(),
        guard=Guard.fit(train, val),
        card=make_card(dataset, size=size, scores=evaluate_table(fitted.head, val)),
    )


def _extract(module: nn.Module, preprocessing: Preprocessing, images: NDArray[Any]) -> NDArray[np.float32]:
    with torch.inference_mode():
        given = module(torch.from_numpy(preprocessing.apply(images)))
    if not isinstance(given, Tensor) or given.flatten(1).ndim != 2:
        raise InputError("The module must return one tensor of features, (N, width).")
    return np.asarray(given.flatten(1).float().numpy())
