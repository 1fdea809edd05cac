"""Rebuilds images from features or ciphertexts by learning from other images. torch and numpy.

The attacker has the images and the views (features, or ciphertext bytes) of other patients, and learns view -> image:

- `ridge`: the best linear map, with its penalty chosen on held-out images;
- `Decoder`: a small convolutional decoder, as in Dosovitskiy and Brox (CVPR 2016), its epoch chosen on held-out images.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cipher.analysis import quality

Images = NDArray[np.float32]
"""(N, C, S, S) in display units, 0 black to 1 white."""
Views = NDArray[np.floating]
"""(N, width): the attacker's view of each image."""

PENALTIES = tuple(10.0**power for power in range(-4, 6))


@dataclass(frozen=True)
class Likeness:
    """Resemblance of rebuilt images to the originals: means over the images."""

    psnr: float
    """Peak signal-to-noise ratio in dB, for 8-bit images, from the mean squared error of each image."""
    ssim: float
    found: float
    """Share of the images whose rebuilt form is nearer (squared error) to its original than to any other original."""


def measure_likeness(originals: Images, rebuilt: Images) -> Likeness:
    """Compare rebuilt with original images (N, C, S, S), S at least 11."""
    true, made = (np.round(np.clip(x, 0, 1) * 255).astype(np.float64) for x in (originals, rebuilt))
    errors = ((true - made) ** 2).mean(axis=(1, 2, 3))
    structure = [quality.structural_similarity(a, b, 255) for a, b in zip(true, made, strict=True)]
    flat_true, flat_made = (x.reshape(len(x), -1).astype(np.float64) for x in (originals, rebuilt))
    nearest = np.argmin((flat_true**2).sum(axis=1)[None] - 2 * flat_made @ flat_true.T, axis=1)
    # An original that occurs twice is found where either is.
    found = (flat_true[nearest] == flat_true).all(axis=1)
    psnr = float(np.mean([quality.psnr(max(float(error), 1e-3), 255) for error in errors]))
    return Likeness(psnr, float(np.mean(structure)), float(found.mean()))


def fit_ridge(views: Views, images: Images, *, held_out: float = 0.2) -> Callable[[Views], Images]:
    """The linear map of least squared error with an L2 penalty; the last images choose the penalty."""
    x = np.asarray(views, dtype=np.float64)
    y = images.reshape(len(images), -1).astype(np.float64)
    cut = max(1, round(len(x) * (1 - held_out)))
    centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    x = (x - centre) / spread
    best, chosen = math.inf, PENALTIES[-1]
    fitted = _Ridge(x[:cut], y[:cut])
    for penalty in PENALTIES:
        error = float(np.mean((fitted.predict(x[cut:], penalty) - y[cut:]) ** 2))
        if error < best:
            best, chosen = error, penalty
    whole = _Ridge(x, y)

    def rebuild(seen: Views) -> Images:
        values = whole.predict((np.asarray(seen, dtype=np.float64) - centre) / spread, chosen)
        return np.clip(values, 0, 1).reshape(-1, *images.shape[1:]).astype(np.float32)

    return rebuild


class _Ridge:
    """Ridge regression for many penalties from one decomposition: (X'X + a n I)^-1 X'Y with centred X and Y."""

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        self._x_mean, self._y_mean = x.mean(axis=0), y.mean(axis=0)
        self._left, self._values, right = np.linalg.svd(x - self._x_mean, full_matrices=False)
        self._right = right.T
        self._projected = self._left.T @ (y - self._y_mean)
        self._count = len(x)

    def predict(self, x: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
        shrink = self._values / (self._values**2 + penalty * self._count)
        rotated = (x - self._x_mean) @ self._right
        return np.asarray(self._y_mean + (rotated * shrink) @ self._projected)


class Decoder(nn.Module):
    """(N, width) -> (N, channels, size, size) in 0 to 1."""

    def __init__(self, width: int, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.start = max(4, -(-size // 4))
        self.first = nn.Sequential(nn.Linear(width, 64 * self.start**2), nn.ReLU())
        self.grow = nn.Sequential(
            nn.Conv2d(64, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(48, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, views: Tensor) -> Tensor:
        maps = self.grow(self.first(views).view(len(views), 64, self.start, self.start))
        if maps.shape[-1] != self.size:
            maps = functional.interpolate(maps, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return torch.sigmoid(maps)


def train_decoder(
    views: Views,
    images: Images,
    *,
    epochs: int,
    seed: int,
    held_out: float = 0.1,
    progress: Callable[[int], None] | None = None,
) -> Callable[[Views], Images]:
    """Train a decoder on views and images; the last images choose the epoch, by squared error.

    The same seed, versions and thread count give the same decoder.
    """
    centre, spread = views.mean(axis=0), views.std(axis=0) + 1e-6

    def scaled(values: Views) -> Tensor:
        return torch.from_numpy(((values - centre) / spread).astype(np.float32))

    x, y = scaled(views), torch.from_numpy(np.ascontiguousarray(images))
    cut = max(1, round(len(x) * (1 - held_out)))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(views.shape[1], images.shape[1], images.shape[2])
    batch = min(64, cut)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=epochs * (cut // batch))
    best, chosen = math.inf, decoder.state_dict()
    for epoch in range(epochs):
        decoder.train()
        order = torch.randperm(cut, generator=generator)
        for step in range(cut // batch):
            rows = order[step * batch : (step + 1) * batch]
            loss = functional.mse_loss(decoder(x[rows]), y[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
        decoder.eval()
        with torch.inference_mode():
            error = float(functional.mse_loss(_batched(decoder, x[cut:]), y[cut:]))
        if error < best:
            best, chosen = error, {name: value.clone() for name, value in decoder.state_dict().items()}
        if progress is not None:
            progress(epoch + 1)
    decoder.load_state_dict(chosen)
    decoder.eval()

    def rebuild(seen: Views) -> Images:
        with torch.inference_mode():
            return np.asarray(_batched(decoder, scaled(seen)).numpy())

    return rebuild


def _batched(decoder: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([decoder(x[start : start + 256]) for start in range(0, len(x), 256)])
