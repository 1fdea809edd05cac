"""The bundle: extractor, preprocessing, head and classes in one file. Its bytes are specified in docs/bundle.md.

A bundle is a safetensors file, so reading one runs no code. Loading an extractor that is the user's own module needs
that module handed in: the file only carries its weights.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as to_bytes
from torch import nn

from models.errors import BundleError, DamagedBundle, InputError, NotABundle, UnsupportedVersion
from models.extractors.cnn import KIND as CNN
from models.extractors.cnn import Cnn, CnnConfig
from models.extractors.towers import KIND as TOWERS
from models.extractors.towers import Towers
from models.heads.layers import Head
from models.images.preprocessing import Preprocessing
from models.metrics import softmax

FORMAT = "he-infer-bundle"
VERSIONS = (1, 2)
"""Version 2 adds the measured sizes of what goes into polynomials; a bundle without them is written as version 1."""
KEY = "he_infer_bundle"
SUFFIX = ".hebundle"
POLICIES = ("hidden", "open")
MODULE = "module"
"""The extractor kind of a user's own torch module."""

_PREFIX = "extractor."
_MOST_JSON = 1 << 20
_BATCH = 256


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
    def head_tensors(self) -> dict[str, NDArray[np.float64]]:
        """The head's weights and biases by their names in the file."""
        return self.head.to_tensors()[0]

    @property
    def head_layers(self) -> list[dict[str, Any]]:
        """The head's layers in the file's JSON form; with `head_tensors` all that the encrypted side needs."""
        return self.head.to_tensors()[1]

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
        self.extractor.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, max(len(images), 1), _BATCH):
                parts.append(self.extractor(self.preprocessing.apply(images[start : start + _BATCH])))
        features = torch.cat(parts).float().numpy()
        if features.ndim != 2 or features.shape[1] != self.head.width:
            raise InputError(
                f"The extractor gives features of shape {features.shape[1:]}; expected ({self.head.width},)."
            )
        if not np.isfinite(features).all() or np.abs(features).max() > self.input_bound:
            raise InputError(
                f"The extractor gives features beyond the bundle's bound of {self.input_bound:g}. Such an image lies "
                "far from the training images: check that it is of the kind that the bundle was trained for."
            )
        return features

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

        Raises:
            BundleError: the head takes another number of features or gives another number of scores.
        """
        if head.width != self.head.width:
            raise BundleError(f"The head takes {head.width} features; this extractor gives {self.head.width}.")
        return replace(self, head=head, training={**self.training, **(training or {})})

    def save(self, path: str | Path) -> None:
        """Write the bundle, whole or not at all. Equal bundles give equal bytes.

        Raises:
            OSError: the folder is missing or not writable.
        """
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(self.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def to_bytes(self) -> bytes:
        """The file's content."""
        tensors, layers = self.head.to_tensors()
        header = {
            "format": FORMAT,
            "version": VERSIONS[any("rms" in layer for layer in layers)],
            "name": self.name,
            "classes": list(self.classes),
            "policy": self.policy,
            "input_bound": self.input_bound,
            "preprocessing": self.preprocessing.to_json(),
            "extractor": dict(self.extractor_json),
            "head": layers,
            "training": dict(self.training),
            "versions": dict(self.versions),
        }
        everything: dict[str, NDArray[Any]] = dict(tensors)
        for name, tensor in self.extractor.state_dict().items():
            everything[_PREFIX + name] = np.ascontiguousarray(tensor.detach().cpu().numpy())
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        written: bytes = to_bytes(everything, metadata={KEY: text})
        return written

    @classmethod
    def load(cls, path: str | Path, *, module: nn.Module | None = None) -> "Bundle":
        """Read a bundle.

        Args:
            path: the file.
            module: the user's own extractor, where the bundle was made with one; its weights are taken from the file.

        Raises:
            NotABundle: no such file, or another kind of file.
            UnsupportedVersion: a version that this release does not read.
            DamagedBundle: parts are missing or contradict each other.
        """
        path = Path(path)
        header, tensors = _read(path)
        try:
            head = Head.from_tensors({k: v for k, v in tensors.items() if k.startswith("head.")}, header["head"])
            weights = {k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)}
            extractor = _extractor(path, header["extractor"], weights, module)
            return cls(
                name=str(header["name"]),
                classes=tuple(str(name) for name in header["classes"]),
                preprocessing=Preprocessing.from_json(header["preprocessing"]),
                extractor=extractor,
                extractor_json=dict(header["extractor"]),
                head=head,
                input_bound=float(header["input_bound"]),
                policy=str(header["policy"]),
                training=dict(header["training"]),
                versions=dict(header["versions"]),
            )
        except DamagedBundle as error:
            raise DamagedBundle(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedBundle(
                f"{path}: the bundle's description is incomplete ({error}). Export it again."
            ) from error


def versions() -> dict[str, str]:
    """The versions that a bundle records."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    if not path.is_file():
        raise NotABundle(f"There is no bundle {path}. Expected a file that 'he-infer train' wrote ({SUFFIX}).")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise NotABundle(f"{path} is a safetensors file, but not a bundle: its metadata lacks '{KEY}'.")
            if len(metadata[KEY]) > _MOST_JSON:
                raise DamagedBundle(f"{path}: the bundle's description is larger than {_MOST_JSON} characters.")
            header = json.loads(metadata[KEY])
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise NotABundle(f"{path} is not a bundle: its description does not name the format '{FORMAT}'.")
            if header.get("version") not in VERSIONS:
                raise UnsupportedVersion(
                    f"{path} is a bundle of version {header.get('version')!r}; this release reads versions "
                    f"{VERSIONS[0]} and {VERSIONS[1]}. Use a release that fits, or export the bundle again."
                )
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise NotABundle(f"{path} is not a bundle, or is cut off: it cannot be read as safetensors.") from error
    except ValueError as error:
        raise DamagedBundle(f"{path}: the bundle's description is not JSON. Export the bundle again.") from error


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
        from models.adopt import rebuild  # it makes bundles, and so imports this module

        built = rebuild(module, description)
    else:
        raise DamagedBundle(f"The bundle's extractor is of the kind {kind!r}. Expected {CNN}, {TOWERS} or {MODULE}.")
    try:
        built.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    except RuntimeError as error:
        raise DamagedBundle("The bundle's extractor weights do not fit the network that it describes.") from error
    return built.eval()
