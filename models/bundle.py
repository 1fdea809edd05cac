"""The bundle: extractor, preprocessing, head and classes in one file. Its bytes are specified in docs/bundle.md.

A bundle is a safetensors file with an ONNX network inside, so reading one runs no foreign code. Imports no torch.
"""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.head.bundle_file import POLICIES, BundleFile, describe
from he_infer.head.layers import Head, Linear
from models.card import OF_THE_HEAD
from models.errors import BundleError, DamagedBundle, InputError
from models.extractors.extractor import TENSOR, Extractor
from models.feature_model import FeatureModel
from models.guard import Guard
from models.images.preprocessing import Preprocessing
from models.metrics import softmax


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model, ready for use at the client; its head alone goes to the server."""

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    extractor: Extractor
    head: Head
    input_bound: float
    """The largest absolute value of a feature that the head's parameters allow for; the client checks it."""
    policy: str = "hidden"
    """`hidden`: the server keeps its weights to itself. `open`: a client may learn them."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Seed, data, epochs, validation figures: everything that is needed to repeat the training."""
    versions: Mapping[str, str] = field(default_factory=dict)
    guard: Guard | None = None
    """Detects images that are unlike the training images; None where the bundle has no guard."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """The model card, which goes to the client; see docs/bundle.md."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise BundleError(f"There is no policy '{self.policy}'. Expected {' or '.join(POLICIES)}.")
        if len(self.classes) != self.head.classes:
            raise BundleError(f"{len(self.classes)} class names do not fit a head of {self.head.classes} scores.")
        if self.extractor.width != self.head.width:
            raise BundleError(f"The extractor gives {self.extractor.width} features; the head takes {self.head.width}.")
        if not (np.isfinite(self.input_bound) and self.input_bound > 0):
            raise BundleError(f"The bound of the features is {self.input_bound}. Expected a positive number.")

    @property
    def chosen_epochs(self) -> str:
        """Text for people: the epoch chosen on validation, one for each tower."""
        chosen = self.training.get("chosen_epoch")
        return ", ".join(map(str, chosen)) if isinstance(chosen, list) else str(chosen)

    @cached_property
    def feature_model(self) -> FeatureModel:
        """The part of the model at the client: images to features."""
        return FeatureModel(self.preprocessing, self.extractor, self.input_bound, self.guard, self.card)

    def features(self, images: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Feature vectors (N, width), float32, each value within +-`input_bound`; see `FeatureModel.features`."""
        return self.feature_model.features(images)

    def scores(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """The head in the clear: features (N, width) -> scores (N, classes). The reference for the encrypted result."""
        if features.ndim != 2 or features.shape[1] != self.head.width:
            raise InputError(f"Features have the shape {features.shape}; the head takes (N, {self.head.width}).")
        return self.head.evaluate(features)

    def probabilities(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Softmax of scores (N, classes)."""
        return softmax(scores)

    def with_head(self, head: Head, training: Mapping[str, Any] | None = None) -> "Bundle":
        """The same extractor with another head, for example one converted from scikit-learn.

        Scores are put in the order of the bundle's classes by the head's `names`. Whole numbers below the number of
        classes are read as indices if they are not class names of the bundle. A head without names keeps its order.
        The card loses what was measured on the former head's scores: operating point, assumed shares and test figures.

        Raises:
            BundleError: the head takes another number of features, or its classes are not the bundle's.
        """
        if head.width != self.head.width:
            raise BundleError(f"The head takes {head.width} features; this extractor gives {self.head.width}.")
        return replace(
            self,
            head=put_in_order(head, self.classes),
            training={**self.training, **(training or {})},
            card={name: value for name, value in self.card.items() if name not in OF_THE_HEAD},
        )

    def with_card(self, card: Mapping[str, Any]) -> "Bundle":
        """The same bundle with another card."""
        return replace(self, card=dict(card))

    def save(self, path: str | Path) -> None:
        """Write the bundle, whole or not at all. Equal bundles give equal bytes.

        Raises:
            DamagedBundle: parts that a reader would refuse.
            OSError: the folder is missing or not writable.
        """
        self.to_file().save(Path(path))

    def to_bytes(self) -> bytes:
        """The file's content."""
        return self.to_file().to_bytes()

    def to_file(self) -> BundleFile:
        """Description and tensors."""
        tensors: dict[str, NDArray[Any]] = {**self.head.to_tensors()[0], TENSOR: self.extractor.to_tensor()}
        description = {
            **describe(self.name, self.classes, self.policy, self.input_bound, self.head),
            "preprocessing": self.preprocessing.to_json(),
            "extractor": self.extractor.to_json(),
            "training": dict(self.training),
            "versions": dict(self.versions),
            "card": dict(self.card),
        }
        if self.guard is not None:
            description["guard"] = self.guard.to_json()
            tensors |= self.guard.to_tensors()
        return BundleFile(description, tensors)

    @classmethod
    def load(cls, path: str | Path) -> "Bundle":
        """Read a whole bundle.

        Raises:
            NotThisFormat, UnsupportedVersion, HeadError, OSError: as `BundleFile.load`.
            DamagedBundle: parts are missing or contradict each other.
        """
        path = Path(path)
        file = BundleFile.load(path)
        client = FeatureModel.from_file(path, file)
        try:
            return cls(
                name=file.name,
                classes=file.classes,
                preprocessing=client.preprocessing,
                extractor=client.extractor,
                head=file.head,
                input_bound=file.input_bound,
                policy=file.policy,
                training=dict(file.description["training"]),
                versions=dict(file.description["versions"]),
                guard=client.guard,
                card=client.card,
            )
        except BundleError as error:
            raise DamagedBundle(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedBundle(
                f"{path}: the bundle's description is incomplete ({error}). Export it again."
            ) from error


def put_in_order(head: Head, classes: tuple[str, ...]) -> Head:
    """The head with its scores in the order of `classes`; see `Bundle.with_head`.

    Raises:
        BundleError: its classes are others.
    """
    if head.names is None:
        return head
    names = list(head.names)
    if sorted(names) == sorted(classes):
        order = [names.index(name) for name in classes]
    elif sorted(names) == sorted(str(index) for index in range(len(classes))):
        order = [names.index(str(index)) for index in range(len(classes))]
    else:
        raise BundleError(
            f"The head's classes are {', '.join(names)}; the bundle's are {', '.join(classes)}. They must be the same "
            "names, or whole numbers from 0 up in the bundle's order: fit the classifier on these."
        )
    last = head.layers[-1]
    if not isinstance(last, Linear):
        raise BundleError("A head must end with a linear layer.")
    return Head((*head.layers[:-1], Linear(last.weight[order], last.bias[order])), names=classes)


def versions() -> dict[str, str]:
    """The versions that a bundle records."""
    found = {"python": platform.python_version()}
    for package in ("torch", "numpy", "onnx"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
