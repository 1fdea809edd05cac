"""The client's part of a model: preprocessing, extractor, guard and card. Imports no torch, holds no head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.head.bundle_file import BundleFile
from models.errors import DamagedBundle, InputError
from models.extractors.extractor import Extractor
from models.guard import Guard, Verdict
from models.images.preprocessing import Preprocessing

_BATCH = 64


@dataclass(frozen=True, eq=False)
class FeatureModel:
    """Images in, bounded feature vectors and a verdict on each out."""

    preprocessing: Preprocessing
    extractor: Extractor
    input_bound: float
    """The largest absolute value of a feature that the head's parameters allow for."""
    guard: Guard | None = None
    """Detects images that are unlike the training images; None where the bundle has no guard."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """The model card; see docs/bundle.md."""

    def __post_init__(self) -> None:
        wanted = (self.preprocessing.channels, self.preprocessing.size)
        if wanted != (self.extractor.channels, self.extractor.size):
            raise DamagedBundle(
                f"Images are prepared as {wanted[0]} channel(s) of {wanted[1]} pixels; the extractor takes "
                f"{self.extractor.channels} of {self.extractor.size}."
            )
        if self.guard is not None and self.guard.width != self.extractor.width:
            raise DamagedBundle("The guard was made for features of another width than the extractor gives.")

    @staticmethod
    def from_file(path: Path, file: BundleFile) -> "FeatureModel":
        """The feature model of a whole bundle or a client's part that was read already.

        Raises:
            DamagedBundle: parts are missing or contradict each other; the text names the file.
        """
        try:
            described = file.description
            guard = described.get("guard")
            return FeatureModel(
                Preprocessing.from_json(described["preprocessing"]),
                Extractor.from_bundle(described["extractor"], file.tensors),
                file.input_bound,
                None if guard is None else Guard.from_bundle(guard, file.tensors),
                dict(described.get("card") or {}),
            )
        except DamagedBundle as error:
            raise DamagedBundle(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedBundle(
                f"{path}: the bundle's description is incomplete ({error}). Export it again."
            ) from error

    @property
    def width(self) -> int:
        """Length of a feature vector."""
        return self.extractor.width

    def judge(self, features: NDArray[Any]) -> list[Verdict]:
        """A verdict on each row of features (N, width): whether the image is like the training images.

        Without a guard all are accepted.
        """
        if self.guard is None:
            return [Verdict(True, 0.0, float("inf"))] * len(features)
        return self.guard.judge(features)

    def features(self, images: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Feature vectors (N, width), float32, each value within +-`input_bound`.

        Args:
            images: (N, H, W), (N, H, W, 3), or a sequence of single images of any sizes; see `Preprocessing.apply`.

        Raises:
            InputError: images of another shape, type or range, or features beyond the bound.
        """
        parts = [
            self.extractor.run(self.preprocessing.apply(images[start : start + _BATCH]))
            for start in range(0, max(len(images), 1), _BATCH)
        ]
        features = np.concatenate(parts)
        if np.abs(features).max(initial=0) > self.input_bound:
            raise InputError(
                f"The extractor gives features beyond the bundle's bound of {self.input_bound:g}. Such an image lies "
                "far from the training images: check that it is of the kind that the bundle was trained for."
            )
        return features
