"""Turns images into network input, by a frozen description in the bundle, so that every client does the same."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DamagedBundle, InputError
from models.images.scratch import reserve_array
from models.images.values import check_display, to_display

VERSION = 2
SIDES = (8, 1024)
SCALINGS = ("dataset", "image")

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_TOGETHER = 1 << 22
"""Pixels that are measured together."""
_FLAT = 1e-3
"""Least standard deviation that an image is divided by; a flat image becomes zeros rather than amplified noise."""


@dataclass(frozen=True)
class Preprocessing:
    """The steps from images to network inputs.

    In order: to display units (`values.to_display`), to the wanted number of channels (luminance, or grey repeated),
    cut to the central square, resized to `size` (bilinear, antialiased), then scaled. Scaling `dataset` subtracts
    `mean` and divides by `std`, one number a channel, of the training images; `image` does so with each image's own
    mean and deviation, which makes the result independent of brightness and contrast.
    """

    size: int
    """Side of the network's input in pixels."""
    channels: int
    """1 grey, 3 colour."""
    scaling: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std)
        sound = (
            SIDES[0] <= self.size <= SIDES[1]
            and self.channels in (1, 3)
            and self.scaling in SCALINGS
            and len(self.mean) == len(self.std) == self.channels
            and all(np.isfinite(number) for number in numbers)
            and all(number > 0 for number in self.std)
        )
        if not sound:
            raise InputError(
                f"Invalid preprocessing: size {self.size}, {self.channels} channel(s), scaling "
                f"'{self.scaling}', {len(self.mean)} means, {len(self.std)} deviations. Expected a size of {SIDES[0]} "
                f"to {SIDES[1]}, 1 or 3 channels, scaling {' or '.join(SCALINGS)}, positive deviations."
            )

    @classmethod
    def plain(cls, size: int, channels: int) -> "Preprocessing":
        """Cutting and resizing alone: the result is in display units."""
        return cls(size, channels, "dataset", (0.0,) * channels, (1.0,) * channels)

    @classmethod
    def fit(cls, images: NDArray[Any], *, size: int, channels: int, scaling: str = "dataset") -> "Preprocessing":
        """Measure mean and deviation on training images (N, H, W[, 3]); never on validation or test images."""
        plain = cls(size, channels, "dataset", (0.0,) * channels, (1.0,) * channels)
        total, squares, count = np.zeros(channels), np.zeros(channels), 0
        _check(images)
        for rows in _iterate_together(images, size * size * channels):
            part = plain._scale(images[rows]).astype(np.float64)
            total = total + part.sum(axis=(0, 2, 3))
            squares = squares + (part**2).sum(axis=(0, 2, 3))
            count += part.shape[0] * part.shape[2] * part.shape[3]
        mean = total / max(count, 1)
        std = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, _FLAT**2))
        return cls(
            size,
            channels,
            scaling,
            tuple(round(v, 6) for v in mean.tolist()),
            tuple(round(v, 6) for v in std.tolist()),
        )

    def apply(self, images: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Turn images into network input (N, channels, size, size), float32.

        Args:
            images: an array (N, H, W) or (N, H, W, 3), or a sequence of (H, W) or (H, W, 3) arrays of any sizes; uint8,
                uint16, or float in display units.

        Raises:
            InputError: another shape or type, an empty batch, or pixels that are not numbers or not in display units.
            OSError: many images, and no space for the temporary file that holds their result.
        """
        if isinstance(images, np.ndarray):
            if images.ndim not in (3, 4):
                raise InputError(
                    f"Images came as an array of shape {images.shape}. Expected (N, H, W) or (N, H, W, 3): give a "
                    "single image as image[None]."
                )
            _check(images)
            result = reserve_array((len(images), self.channels, self.size, self.size), np.float32)
            for rows in _iterate_together(images, self.size * self.size * self.channels):
                result[rows] = self._scale(images[rows])
            return result
        if not images:
            raise InputError("No image was given. At least one is needed.")
        single = [np.asarray(image)[None] for image in images]
        for image in single:
            _check(image)
        return np.concatenate([self._scale(image) for image in single])

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, in hex."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The form that the bundle carries."""
        return {"version": VERSION, **asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """Read the form that the bundle carries.

        Raises:
            DamagedBundle: a field is missing or of another kind, or the version is unknown.
        """
        try:
            if values["version"] != VERSION:
                raise DamagedBundle(
                    f"The bundle's preprocessing has version {values['version']!r}; this release knows "
                    f"{VERSION}. Use a newer release."
                )
            return cls(
                size=int(values["size"]),
                channels=int(values["channels"]),
                scaling=str(values["scaling"]),
                mean=tuple(float(v) for v in values["mean"]),
                std=tuple(float(v) for v in values["std"]),
            )
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise DamagedBundle(
                "The bundle's preprocessing is incomplete or invalid. Export the bundle again."
            ) from error

    def _scale(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """(N, H, W[, 3]) -> (N, channels, size, size), network input."""
        pixels = self._fit_size(images)
        if self.scaling == "image":
            mean = pixels.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
            std = pixels.std(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
            scaled = (pixels - mean) / np.maximum(std, _FLAT)
        else:
            mean, std = (np.array(values, dtype=np.float32).reshape(1, -1, 1, 1) for values in (self.mean, self.std))
            scaled = (pixels - mean) / std
        return np.ascontiguousarray(scaled, dtype=np.float32)

    def _fit_size(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """(N, H, W[, 3]) -> (N, channels, size, size) in display units."""
        pixels = to_display(images)
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        if pixels.shape[1] == 3 and self.channels == 1:
            weights = np.array(_LUMINANCE, dtype=np.float32).reshape(1, 3, 1, 1)
            pixels = (pixels * weights).sum(axis=1, keepdims=True)
        elif pixels.shape[1] == 1 and self.channels == 3:
            pixels = np.repeat(pixels, 3, axis=1)
        side = min(pixels.shape[2:])
        top, left = (pixels.shape[2] - side) // 2, (pixels.shape[3] - side) // 2
        pixels = pixels[:, :, top : top + side, left : left + side]
        return pixels if side == self.size else _resize(pixels, self.size)


def _check(images: NDArray[Any]) -> None:
    """Refuse images (N, H, W[, C]) of another shape, type or range."""
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)) or 0 in images.shape:
        raise InputError(f"An image has the shape {images.shape[1:]}. Expected (H, W) or (H, W, 3), not empty.")
    check_display(images)


def _iterate_together(images: NDArray[Any], outputs: int) -> Iterator[slice]:
    """Slices of images whose pixels, or whose `outputs` numbers an image, are worked on together."""
    step = max(1, min(1024, _TOGETHER // max(outputs, int(np.prod(images.shape[1:])))))
    for start in range(0, len(images), step):
        yield slice(start, start + step)


def _resize(pixels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Square images (N, C, side, side) resampled to (N, C, size, size): bilinear, antialiased where they shrink."""
    from PIL import Image

    flat = np.ascontiguousarray(pixels).reshape(-1, *pixels.shape[2:])
    small = np.empty((len(flat), size, size), dtype=np.float32)
    for index, channel in enumerate(flat):
        small[index] = np.asarray(Image.fromarray(channel).resize((size, size), Image.Resampling.BILINEAR))
    return small.reshape(*pixels.shape[:2], size, size)
