"""Detection of images that are unlike the training images, at the client, from features in clear.

The training features are kept as a normal distribution: their mean, their main directions with a variance each, and one
variance for all other directions (probabilistic PCA, Tipping and Bishop 1999), which is a shrinkage that needs no
inverse of a large matrix. An image's distance is the Mahalanobis distance under it. The threshold is a tolerance limit
(Wilks 1941): a distance of the validation images that, with 95% confidence, at most a stated share of new images of
their kind exceeds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DamagedBundle

VERSION = 1
FALSE_ALARMS = 0.01
"""Largest share of images of the model's kind beyond the threshold, where there are validation images enough (299)."""
CONFIDENCE = 0.95
_DIRECTIONS = 64
_FEWEST = 20
_ROWS = 4096
_NAMES = ("guard.mean", "guard.directions", "guard.variances")


def choose_threshold(distances: NDArray[np.float64], share: float = FALSE_ALARMS) -> tuple[float, float]:
    """The smallest of some distances that at most a share of further ones exceed, with 95% confidence; and that share.

    Of n exchangeable distances, the share of further ones beyond the (r + 1)-th largest has the distribution
    Beta(r + 1, n - r) (Wilks 1941). Where even the largest one promises no such share, which is so for fewer than 299
    distances and 1%, it is taken, with the share that it does promise: 3.8% for 78 distances. Needs scipy.
    """
    from scipy.stats import beta

    ordered = np.sort(np.asarray(distances, dtype=np.float64))
    count = len(ordered)
    beyond = 0
    while beyond + 1 < count and beta.cdf(share, beyond + 2, count - beyond - 1) >= CONFIDENCE:
        beyond += 1
    return float(ordered[count - 1 - beyond]), float(beta.ppf(CONFIDENCE, beyond + 1, count - beyond))


@dataclass(frozen=True)
class Verdict:
    """Whether an image is of the model's kind."""

    accepted: bool
    distance: float
    """Mahalanobis distance of its features from the training features, divided by the square root of their number."""
    threshold: float
    reason: str = ""
    """A sentence for people; empty where the image is accepted."""


@dataclass(frozen=True, eq=False)
class Guard:
    """The distribution of training features and a threshold."""

    mean: NDArray[np.float32]
    """(width,)."""
    directions: NDArray[np.float32] = field(repr=False)
    """(k, width), orthonormal rows."""
    variances: NDArray[np.float32] = field(repr=False)
    """Variances (k + 1,): one for each main direction, the last for every other direction."""
    threshold: float
    false_alarms: float
    """Largest share of images of the validation images' kind beyond the threshold, with 95% confidence."""
    images: int
    """Validation images that the threshold was chosen on."""

    @property
    def width(self) -> int:
        """Length of a feature vector."""
        return len(self.mean)

    def distances(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """(N,) Mahalanobis distances of features (N, width), divided by sqrt(width): about 1 for training images."""
        centred = np.asarray(features, dtype=np.float64) - self.mean
        along = centred @ self.directions.T.astype(np.float64)
        variances = self.variances.astype(np.float64)
        beside = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        squares = (along**2 / variances[:-1]).sum(axis=1) + beside / variances[-1]
        return np.asarray(np.sqrt(squares / self.width))

    def judge(self, features: NDArray[Any]) -> list[Verdict]:
        """A verdict on each row of features (N, width)."""
        return [
            Verdict(True, distance, self.threshold)
            if distance <= self.threshold
            else Verdict(
                False,
                distance,
                self.threshold,
                f"Not this model's kind: its features lie {distance / self.threshold:.1f} times as far from the "
                f"training images as the threshold, which at most {100 * self.false_alarms:.2g}% of images of its kind "
                "exceed.",
            )
            for distance in self.distances(features).tolist()
        ]

    @classmethod
    def fit(
        cls, features: NDArray[Any], validation: NDArray[Any], *, false_alarms: float = FALSE_ALARMS
    ) -> "Guard | None":
        """Measure training features (n, width) and set the threshold on validation features (m, width).

        None where there are too few images: fewer than 20 to train on, or for validation. With few validation images
        the share that can be promised is larger than the requested one; see `choose_threshold`.
        """
        count, width = features.shape
        if min(count, len(validation)) < _FEWEST:
            return None
        mean, spectrum, directions = _find_directions(features)
        kept = int(min(_DIRECTIONS, len(directions), width - 1, count // 4))
        # At least a hundredth of the mean variance: without it a direction that training never used counts infinitely.
        rest = max(float(spectrum[kept:].mean()), 0.01 * float(spectrum.mean()), 1e-9)
        variances = np.append(np.maximum(spectrum[:kept], rest), rest)
        made = cls(
            mean.astype(np.float32),
            directions[:kept].astype(np.float32),
            variances.astype(np.float32),
            1.0,
            false_alarms,
            len(validation),
        )
        parts = [made.distances(validation[start : start + _ROWS]) for start in range(0, len(validation), _ROWS)]
        threshold, share = choose_threshold(np.concatenate(parts), false_alarms)
        return replace(made, threshold=math.ceil(1e6 * threshold) / 1e6, false_alarms=round(share, 6))

    def to_json(self) -> dict[str, Any]:
        """The member `guard` of a bundle."""
        return {
            "version": VERSION,
            "method": "mahalanobis-ppca",
            "threshold": self.threshold,
            "false_alarms": self.false_alarms,
            "images": self.images,
        }

    def to_tensors(self) -> dict[str, NDArray[np.float32]]:
        """The tensors of a bundle."""
        return dict(zip(_NAMES, (self.mean, self.directions, self.variances), strict=True))

    @classmethod
    def from_bundle(cls, description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "Guard":
        """Read what `to_json` and `to_tensors` gave.

        Raises:
            DamagedBundle: another version, missing tensors, or invalid numbers.
        """
        try:
            if description["version"] != VERSION:
                raise DamagedBundle(f"The guard has version {description['version']!r}; this release reads {VERSION}.")
            mean, directions, variances = (np.asarray(tensors[name], dtype=np.float32) for name in _NAMES)
            threshold, share = float(description["threshold"]), float(description["false_alarms"])
            images = int(description["images"])
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedBundle(f"The guard is incomplete ({error}). Export the bundle again.") from error
        sound = (
            mean.ndim == 1
            and directions.ndim == 2
            and directions.shape[1:] == mean.shape
            and variances.shape == (len(directions) + 1,)
            and all(np.isfinite(values).all() for values in (mean, directions, variances))
            and bool((variances > 0).all())
            and 0 < threshold < np.inf
            and 0 < share < 1
        )
        if not sound:
            raise DamagedBundle("The guard's numbers are invalid. Export the bundle again.")
        return cls(mean, directions, variances, threshold, share, images)


def _find_directions(
    features: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean (width,), variances along the main directions, largest first and zeros beyond, (width,), and directions.

    Many features are summed up in their covariance matrix, block by block; few are decomposed themselves.
    """
    count, width = features.shape
    starts = range(0, count, _ROWS)
    mean = sum(features[start : start + _ROWS].sum(axis=0, dtype=np.float64) for start in starts) / count
    spectrum = np.zeros(width)
    if count <= max(2 * width, _ROWS):
        _, singular, directions = np.linalg.svd(np.asarray(features, dtype=np.float64) - mean, full_matrices=False)
        spectrum[: len(singular)] = singular**2 / max(count - 1, 1)
        return mean, spectrum, directions
    covariance = np.zeros((width, width))
    for start in starts:
        centred = features[start : start + _ROWS] - mean
        covariance += centred.T @ centred
    variances, vectors = np.linalg.eigh(covariance / (count - 1))
    return mean, np.maximum(variances[::-1], 0), vectors.T[::-1]
