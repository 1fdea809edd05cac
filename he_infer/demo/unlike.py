"""The guard on images that no scanner made: photographs, noise, a test pattern, and an inverted test image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from models.feature_model import FeatureModel

_FIELDS = 8
"""Fields of the chessboard to a side."""


@dataclass(frozen=True)
class UnlikeImage:
    """An image that is unlike the training images, and the guard's verdict."""

    name: str
    refused: bool
    distance: float
    threshold: float


def judge_unlike_images(model: FeatureModel, images: NDArray[np.generic], seed: int = 0) -> list[UnlikeImage]:
    """Ask the guard about two photographs that come with scikit-learn, noise, a chessboard and an inverted test image.

    Args:
        model: the hospital's part of the model.
        images: (N, H, W) or (N, H, W, C), the test images; the made ones get their shape and range.
        seed: decides the noise.
    """
    example = images[len(images) // 2]
    low, high = float(images.min()), float(images.max())
    rows, columns = np.indices(example.shape[:2])
    fields = (rows * _FIELDS // example.shape[0] + columns * _FIELDS // example.shape[1]) % 2
    chessboard = np.broadcast_to(fields[..., None], example.shape) if example.ndim == 3 else fields
    made = {
        "a photograph of a temple": low + (high - low) * _read_photograph("china.jpg", example.shape),
        "a photograph of a flower": low + (high - low) * _read_photograph("flower.jpg", example.shape),
        "uniform noise": low + (high - low) * np.random.default_rng(seed).random(example.shape),
        "a chessboard": low + (high - low) * chessboard,
        "an inverted test image": low + high - example.astype(np.float64),
    }
    features = model.features(np.stack([image.astype(images.dtype) for image in made.values()]))
    verdicts = model.judge(features)
    return [
        UnlikeImage(name, not verdict.accepted, verdict.distance, verdict.threshold)
        for name, verdict in zip(made, verdicts, strict=True)
    ]


def _read_photograph(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A photograph's middle at a shape, grey or in colour, from 0 to 1."""
    photograph = Image.fromarray(load_sample_image(name)).convert("L" if len(shape) == 2 else "RGB")
    return np.asarray(ImageOps.fit(photograph, (shape[1], shape[0])), dtype=np.float64) / 255
