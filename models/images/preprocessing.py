"""Image -> network input: one frozen description that travels in the bundle, so that every client does the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.errors import DamagedBundle, InputError

VERSION = 1
SIDES = (8, 1024)
SCALINGS = ("dataset", "image")
FRAMINGS = ("resize", "crop")

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_FLAT = 1e-3
"""Least standard deviation that an image is divided by; a flat image becomes zeros rather than amplified noise."""


@dataclass(frozen=True)
class Preprocessing:
    """How images become network inputs.

    In order: to display units (uint8 / 255, uint16 / 65535, float as it is), to the wanted number of channels
    (luminance, or grey repeated), framed, then scaled. Framing `resize` cuts to the central square and resizes that
    to `size` (bilinear, antialiased); `crop` takes the central `size` x `size` pixels as they are. Scaling `dataset`
    subtracts `mean` and divides by `std`, one number a channel, of the training images; `image` does so with each
    image's own mean and deviation, which makes the result independent of brightness and contrast.
    """

    size: int
    """Side of the network's input in pixels."""
    channels: int
    """1 grey, 3 colour."""
    framing: str
    scaling: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std)
        sound = (
            SIDES[0] <= self.size <= SIDES[1]
            and self.channels in (1, 3)
            and self.framing in FRAMINGS
            and self.scaling in SCALINGS
            and len(self.mean) == len(self.std) == self.channels
            and all(np.isfinite(number) for number in numbers)
            and all(number > 0 for number in self.std)
        )
        if not sound:
            raise InputError(
                f"This preprocessing makes no sense: size {self.size}, {self.channels} channel(s), framing "
                f"'{self.framing}', scaling '{self.scaling}', {len(self.mean)} means, {len(self.std)} deviations. "
                f"Expected a size of {SIDES[0]} to {SIDES[1]}, 1 or 3 channels, framing {' or '.join(FRAMINGS)}, "
                f"scaling {' or '.join(SCALINGS)}, positive deviations."
            )

    @classmethod
    def plain(cls, size: int, channels: int) -> "Preprocessing":
        """Framing alone: the result is in display units."""
        return cls(size, channels, "resize", "dataset", (0.0,) * channels, (1.0,) * channels)

    @classmethod
    def fit(
        cls, images: NDArray[Any], *, size: int, channels: int, framing: str = "resize", scaling: str = "dataset"
    ) -> "Preprocessing":
        """Measure mean and deviation on training images (N, H, W[, 3]); never on validation or test images."""
        plain = cls(size, channels, framing, "dataset", (0.0,) * channels, (1.0,) * channels)
        total, squares, count = torch.zeros(channels), torch.zeros(channels), 0
        for start in range(0, len(images), 1024):
            part = plain.apply(images[start : start + 1024]).double()
            total = total + part.sum(dim=(0, 2, 3))
            squares = squares + (part**2).sum(dim=(0, 2, 3))
            count += part.shape[0] * part.shape[2] * part.shape[3]
        mean = total / max(count, 1)
        std = (squares / max(count, 1) - mean**2).clamp_min(_FLAT**2).sqrt()
        return cls(
            size,
            channels,
            framing,
            scaling,
            tuple(round(v, 6) for v in mean.tolist()),
            tuple(round(v, 6) for v in std.tolist()),
        )

    def apply(self, images: NDArray[Any] | Sequence[NDArray[Any]]) -> torch.Tensor:
        """Turn images into network input (N, channels, size, size), float32.

        Args:
            images: an array (N, H, W) or (N, H, W, 3), or a sequence of (H, W) or (H, W, 3) arrays of any sizes; uint8,
                uint16, or float in display units.

        Raises:
            InputError: another shape or type, an empty batch, or pixels that are not numbers.
        """
        if isinstance(images, np.ndarray):
            if images.ndim not in (3, 4):
                raise InputError(
                    f"Images came as an array of shape {images.shape}. Expected (N, H, W) or (N, H, W, 3): give a "
                    "single image as image[None]."
                )
            pixels = self._sized(images)
        else:
            if not images:
                raise InputError("No image was given. At least one is needed.")
            pixels = torch.cat([self._sized(np.asarray(image)[None]) for image in images])
        if self.scaling == "image":
            mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
            std = pixels.std(dim=(1, 2, 3), keepdim=True, unbiased=False)
            return (pixels - mean) / std.clamp_min(_FLAT)
        return (pixels - torch.tensor(self.mean).view(1, -1, 1, 1)) / torch.tensor(self.std).view(1, -1, 1, 1)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, in hex: a report can name it."""
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
                framing=str(values["framing"]),
                scaling=str(values["scaling"]),
                mean=tuple(float(v) for v in values["mean"]),
                std=tuple(float(v) for v in values["std"]),
            )
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise DamagedBundle(
                "The bundle's preprocessing is incomplete or makes no sense. Export the bundle again."
            ) from error

    def _sized(self, images: NDArray[Any]) -> torch.Tensor:
        """(N, H, W[, 3]) -> (N, channels, size, size) in display units."""
        if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)) or 0 in images.shape:
            raise InputError(f"An image has the shape {images.shape[1:]}. Expected (H, W) or (H, W, 3), not empty.")
        if images.dtype == np.uint8:
            values = images.astype(np.float32) / np.float32(255)
        elif images.dtype == np.uint16:
            values = images.astype(np.float32) / np.float32(65535)
        elif images.dtype.kind == "f":
            values = images.astype(np.float32)
            if not np.isfinite(values).all():
                raise InputError("An image holds pixels that are not numbers (NaN or infinite). Replace them first.")
        else:
            raise InputError(f"Images are of type {images.dtype}. Expected uint8, uint16, or float in display units.")
        pixels = torch.from_numpy(np.ascontiguousarray(values))
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        if pixels.shape[1] == 3 and self.channels == 1:
            pixels = (pixels * torch.tensor(_LUMINANCE).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        elif pixels.shape[1] == 1 and self.channels == 3:
            pixels = pixels.expand(-1, 3, -1, -1)
        side = min(pixels.shape[2:])
        if self.framing == "crop" and side > self.size:
            side = self.size
        top, left = (pixels.shape[2] - side) // 2, (pixels.shape[3] - side) // 2
        pixels = pixels[:, :, top : top + side, left : left + side]
        if side != self.size:
            pixels = functional.interpolate(
                pixels, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=True
            )
        return pixels.contiguous()
