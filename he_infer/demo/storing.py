"""The demo's vault: every original image goes through the image cipher onto disk and comes back bit for bit.

It knows the cipher and files, and nothing of encrypted inference.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cipher.container import api as container
from cipher.dicom.span import lay_out
from cipher.files.atomic import atomic_write
from cipher.keys.vault_key import VaultKey
from cipher.vault import forms
from models.datasets import Dataset

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StoredImages:
    """Figures of storing and restoring."""

    objects: int
    plain_bytes: int
    sealed_bytes: int
    seconds: float
    """Time to seal, from reading each file to its synced container, on one thread."""

    @property
    def mb_per_s(self) -> float:
        """Millions of plaintext bytes sealed a second."""
        return self.plain_bytes / 1e6 / self.seconds


class RestoreMismatch(RuntimeError):
    """A restored image is not the stored one: a defect of the cipher, never a mistake of the user's."""


def seal_files(files: Sequence[Path], vault: Path, key: VaultKey, progress: Progress) -> StoredImages:
    """Seal every file into `vault` and check that restoring gives the same bytes.

    Raises:
        RestoreMismatch: restored bytes differ.
        CipherError: a container cannot be written or opened.
    """
    vault.mkdir(parents=True, exist_ok=True)
    check = vault / ".restored"
    seconds = 0.0
    plain = sealed = 0
    for index, source in enumerate(files):
        target = vault / f"{index:05d}.sealed"
        started = time.perf_counter()
        forms.seal_path(source, target, key)
        seconds += time.perf_counter() - started
        forms.open_path(target, check, key)
        if check.read_bytes() != source.read_bytes():
            raise RestoreMismatch(f"{source.name} came back from the vault changed.")
        check.unlink()
        plain += source.stat().st_size
        sealed += target.stat().st_size
        progress(index + 1, len(files))
    return StoredImages(len(files), plain, sealed, seconds)


def seal_arrays(images: NDArray[np.generic], vault: Path, key: VaultKey, progress: Progress) -> StoredImages:
    """Seal every image of an array (N, H, W) or (N, H, W, C) into `vault` and check that each restores exactly.

    Raises:
        RestoreMismatch: a restored array differs in type, shape or any pixel.
        CipherError: a container cannot be written or opened.
    """
    vault.mkdir(parents=True, exist_ok=True)
    seconds = 0.0
    sealed = 0
    for index, image in enumerate(images):
        target = vault / f"{index:05d}.sealed"
        started = time.perf_counter()
        data = container.seal_array(np.ascontiguousarray(image), key, name=f"image {index}")
        with atomic_write(target, mode=0o600) as file:
            file.write(data)
        seconds += time.perf_counter() - started
        restored = container.open_array(target.read_bytes(), key)
        if restored.dtype != image.dtype or not np.array_equal(restored, image):
            raise RestoreMismatch(f"Image {index} came back from the vault changed.")
        sealed += len(data)
        progress(index + 1, len(images))
    return StoredImages(len(images), int(images.nbytes), sealed, seconds)


def warm_up(key: VaultKey) -> None:
    """Run the cipher once on a small image, so that the time of compilation is not measured."""
    for dtype in (np.uint8, np.uint16):
        container.open_array(container.seal_array(np.zeros((64, 64), dtype=dtype), key), key)


def choose_image(dataset: Dataset) -> tuple[NDArray[np.generic], str]:
    """Choose an image for the report, and its name: a test file's stored pixels, else the middle test image."""
    for path in dataset.sources.get("test", ()):
        pixels = _stored_pixels(path)
        if pixels is not None:
            return pixels, path.name
    image = dataset.test.images[len(dataset.test) // 2]
    title = f"an image of {dataset.name}"
    if image.dtype.kind == "f":
        return np.asarray(np.clip(image * 255.0, 0, 255), dtype=np.uint8), title
    return np.ascontiguousarray(image), title


def _stored_pixels(path: Path) -> NDArray[np.generic] | None:
    """The pixels (H, W) as a DICOM file stores them; none where they are compressed, many frames, tiny or huge."""
    layout = lay_out(path)
    span = layout.span
    if span is None or len(span.shape) != 2 or min(span.shape) < 128 or max(span.shape) > 1024:
        return None
    with path.open("rb") as file:
        file.seek(span.offset)
        pixels = np.frombuffer(file.read(span.length), dtype=span.dtype).reshape(span.shape)
    return pixels.astype(pixels.dtype.newbyteorder("="))
