"""Noise and occlusion on the inner cipher image, and the image that decryption then gives.

Many papers count it as a merit that a damaged cipher image still decrypts to a recognisable picture. In medicine it is
none: these figures describe the inner layer, and the container around it refuses every damaged image.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cipher.analysis.pixels import Image, highest, planes, words
from cipher.analysis.quality import mse, psnr

Damage = Callable[[Image, np.random.Generator], Image]


@dataclass(frozen=True)
class Case:
    """A kind of damage to a cipher image."""

    name: str
    damage: Damage


@dataclass(frozen=True)
class Outcome:
    """Result of decrypting a damaged cipher image."""

    damaged_pixels: int
    """Cipher pixels that the damage changed."""
    wrong_pixels: int
    """Pixels of the decrypted image that differ from the original."""
    pixels: int
    psnr: float
    """PSNR of the decrypted image against the original, in dB over the pixel type's range."""
    restored: Image

    @property
    def intact_share(self) -> float:
        """Share of pixels that came back unchanged."""
        return 1 - self.wrong_pixels / self.pixels


def one_pixel(cipher_image: Image, rng: np.random.Generator) -> Image:
    """Change one pixel by a random non-zero difference."""
    noisy = np.ascontiguousarray(cipher_image).copy()
    target = words(noisy).reshape(-1)
    target[rng.integers(target.size)] ^= rng.integers(1, highest(noisy), endpoint=True, dtype=target.dtype)
    return noisy


def salt_and_pepper(share: float) -> Damage:
    """Set a share of the pixels to the lowest or highest value."""

    def damage(cipher_image: Image, rng: np.random.Generator) -> Image:
        noisy = np.ascontiguousarray(cipher_image).copy()
        target = words(noisy).reshape(-1)
        where = rng.choice(target.size, size=max(1, round(share * target.size)), replace=False)
        target[where] = np.where(rng.integers(0, 2, where.size) == 1, highest(noisy), 0).astype(target.dtype)
        return noisy

    return damage


def occlusion(share: float) -> Damage:
    """Blacken a centred rectangle with this share of the area, in every plane."""

    def damage(cipher_image: Image, rng: np.random.Generator) -> Image:
        del rng
        hidden = np.ascontiguousarray(cipher_image).copy()
        view = planes(words(hidden))
        height, width = view.shape[1:]
        rows, columns = round(height * share**0.5), round(width * share**0.5)
        top, left = (height - rows) // 2, (width - columns) // 2
        view[:, top : top + rows, left : left + columns] = 0
        return hidden

    return damage


CASES = (
    Case("one cipher pixel changed", one_pixel),
    Case("salt and pepper, 0.1 %", salt_and_pepper(0.001)),
    Case("salt and pepper, 1 %", salt_and_pepper(0.01)),
    Case("salt and pepper, 5 %", salt_and_pepper(0.05)),
    Case("occlusion, 1/64", occlusion(1 / 64)),
    Case("occlusion, 1/16", occlusion(1 / 16)),
    Case("occlusion, 1/4", occlusion(1 / 4)),
)


def outcome(original: Image, cipher_image: Image, damaged: Image, restored: Image) -> Outcome:
    """Compare the decrypted image with the original."""
    return Outcome(
        damaged_pixels=int(np.count_nonzero(words(cipher_image) != words(damaged))),
        wrong_pixels=int(np.count_nonzero(words(original) != words(restored))),
        pixels=original.size,
        psnr=psnr(mse(original, restored), highest(original)),
        restored=restored,
    )
