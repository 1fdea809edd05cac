"""The bundle: extractor, preprocessing, head and classes in one file. Its bytes are specified in docs/bundle.md.

A bundle is a safetensors file, so reading one runs no code. Loading an extractor that is the user's own module needs
that module handed in: the file only carries its weights.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from he_infer.head.bundle_file import POLICIES, BundleFile, describe
from he_infer.head.layers import Head, Linear
from models.errors import BundleError, DamagedBundle, InputError
from models.extractors.cnn import KIND as CNN
from models.extractors.cnn import Cnn, CnnConfig
from models.extractors.foreign import MODULE, rebuild
from models.extractors.towers import KIND as TOWERS
from models.extractors.towers import Towers
from models.images.preprocessing import Preprocessing
from models.metrics import softmax

_PREFIX = "extractor."
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Extractor:
    """Images to features: all that a client runs of a model."""

    preprocessing: Preprocessing
    module: nn.Module
    """(N, channels, size, size) -> (N, width)."""
    width: int
    input_bound: float

    @staticmethod
    def of(path: Path, file: BundleFile, width: int) -> "Extractor":
        """The extractor of a client's part or of a whole bundle.

        Raises:
            DamagedBundle: its description or weights do not fit together.
        """
        weights = {k.removeprefix(_PREFIX): v for k, v in file.tensors.items() if k.startswith(_PREFIX)}
        try:
            preprocessing = Preprocessing.from_json(file.description["preprocessing"])
            module = _extractor(path, file.description["extractor"], weights, None)
        except DamagedBundle as error:
            raise DamagedBundle(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedBundle(f"{path}: the extractor's description is incomplete ({error}).") from error
        return Extractor(preprocessing, module, width, file.input_bound)

    def features(self, images: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Feature vectors (N, width), float32; see `Bundle.features`."""
        self.module.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, max(len(images), 1), _BATCH):
                parts.append(self.module(torch.from_numpy(self.preprocessing.apply(images[start : start + _BATCH]))))
        features = torch.cat(parts).float().numpy()
        if features.ndim != 2 or features.shape[1] != self.width:
            raise InputError(f"The extractor gives features of shape {features.shape[1:]}; expected ({self.width},).")
        if not np.isfinite(features).all() or np.abs(features).max() > self.input_bound:
            raise InputError(
                f"The extractor gives features beyond the bundle's bound of {self.input_bound:g}. Such an image lies "
                "far from the training images: check that it is of the kind that the bundle was trained for."
            )
        return features


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model, ready for use at the client; its head alone goes to the server."""

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    extractor: nn.Module
    """(N, channels, size, size) -> (N, width)."""
    extractor_json: Mapping[str, Any]
    head: Head
    input_bound: float
    """The largest absolute value of a feature that the head's parameters allow for; the client checks it."""
    policy: str = "hidden"
    """`hidden`: the server keeps its weights to itself. `open`: a client may learn them."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Seed, data, epochs, validation figures: whatever makes the figures repeatable."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise BundleError(f"There is no policy '{self.policy}'. Expected {' or '.join(POLICIES)}.")
        if len(self.classes) != self.head.classes:
            raise BundleError(f"{len(self.classes)} class names do not fit a head of {self.head.classes} scores.")
        if not (np.isfinite(self.input_bound) and self.input_bound > 0):
            raise BundleError(f"The bound of the features is {self.input_bound}. Expected a positive number.")

    @property
    def chosen_epochs(self) -> str:
        """The epoch that validation chose, for people; of several towers, each one's."""
        chosen = self.training.get("chosen_epoch")
        return ", ".join(map(str, chosen)) if isinstance(chosen, list) else str(chosen)

    def features(self, images: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Feature vectors (N, width), float32, each value within +-`input_bound`.

        Args:
            images: (N, H, W), (N, H, W, 3), or a sequence of single images of any sizes; see `Preprocessing.apply`.

        Raises:
            InputError: images of another shape or type, or features beyond the bound (only possible with a user's own
                extractor, since the built-in one is bounded).
        """
        return Extractor(self.preprocessing, self.extractor, self.head.width, self.input_bound).features(images)

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

        Scores are put in the order of the bundle's classes by the head's `names`. Names that are no classes of the
        bundle but whole numbers below their count are taken as indices; a head without names is taken as it is.

        Raises:
            BundleError: the head takes another number of features, or its classes are not the bundle's.
        """
        if head.width != self.head.width:
            raise BundleError(f"The head takes {head.width} features; this extractor gives {self.head.width}.")
        return replace(self, head=_in_order(head, self.classes), training={**self.training, **(training or {})})

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
        tensors: dict[str, NDArray[Any]] = dict(self.head.to_tensors()[0])
        for name, tensor in self.extractor.state_dict().items():
            tensors[_PREFIX + name] = np.ascontiguousarray(tensor.detach().cpu().numpy())
        description = {
            **describe(self.name, self.classes, self.policy, self.input_bound, self.head),
            "preprocessing": self.preprocessing.to_json(),
            "extractor": dict(self.extractor_json),
            "training": dict(self.training),
            "versions": dict(self.versions),
        }
        return BundleFile(description, tensors)

    @classmethod
    def load(cls, path: str | Path, *, module: nn.Module | None = None) -> "Bundle":
        """Read a bundle.

        Args:
            path: the file.
            module: the user's own extractor, where the bundle was made with one; its weights are taken from the file.

        Raises:
            NotThisFormat, UnsupportedVersion, HeadError, OSError: as `BundleFile.load`.
            DamagedBundle: parts are missing or contradict each other.
        """
        path = Path(path)
        file = BundleFile.load(path)
        header = file.description
        try:
            weights = {k.removeprefix(_PREFIX): v for k, v in file.tensors.items() if k.startswith(_PREFIX)}
            return cls(
                name=file.name,
                classes=file.classes,
                preprocessing=Preprocessing.from_json(header["preprocessing"]),
                extractor=_extractor(path, header["extractor"], weights, module),
                extractor_json=dict(header["extractor"]),
                head=file.head,
                input_bound=file.input_bound,
                policy=file.policy,
                training=dict(header["training"]),
                versions=dict(header["versions"]),
            )
        except DamagedBundle as error:
            raise DamagedBundle(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedBundle(
                f"{path}: the bundle's description is incomplete ({error}). Export it again."
            ) from error


def _in_order(head: Head, classes: tuple[str, ...]) -> Head:
    """The head with its scores in the order of `classes`."""
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
    return {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__}


def _extractor(
    path: Path, description: Mapping[str, Any], weights: Mapping[str, NDArray[Any]], module: nn.Module | None
) -> nn.Module:
    kind = description["kind"]
    if kind == CNN:
        built: nn.Module = Cnn(CnnConfig.from_json(description))
    elif kind == TOWERS:
        built = Towers.from_json(description)
    elif kind == MODULE:
        if module is None:
            raise BundleError(
                f"The extractor of {path} is its maker's own module ({description.get('module', 'unnamed')}). Build "
                "it and hand it to Bundle.load(path, module=...): a bundle never runs foreign code by itself."
            )
        built = rebuild(module, description)
    else:
        raise DamagedBundle(f"The bundle's extractor is of the kind {kind!r}. Expected {CNN}, {TOWERS} or {MODULE}.")
    try:
        built.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    except RuntimeError as error:
        raise DamagedBundle("The bundle's extractor weights do not fit the network that it describes.") from error
    return built.eval()
