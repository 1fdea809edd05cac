"""A data set: three splits of images with one class each, and what a reader must know about them."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError

Images = NDArray[Any]
Labels = NDArray[np.int64]

SPLITS = ("train", "val", "test")
NOT_STATED = "not stated"
"""Stands among a set's kinds for images whose headers lack the attribute."""
_FEW_PATIENTS = 30


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their classes.

    images: (N, H, W) grey or (N, H, W, 3) colour; uint8, uint16, or float32 in display units (0 black, 1 white).
    labels: (N,) int64, each an index into the data set's classes.
    """

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, limit: int) -> "Split":
        """The first `limit` images (all of them where there are fewer)."""
        return Split(self.images[:limit], self.labels[:limit])

    def digests(self) -> list[bytes]:
        """A SHA-256 of each image's shape, type and pixels: equal exactly where the images are."""
        header = f"{self.images.shape[1:]}{self.images.dtype.str}".encode()
        return [hashlib.sha256(header + np.ascontiguousarray(image).tobytes()).digest() for image in self.images]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification set with fixed splits. The test split is for the last figure only, never for a choice."""

    name: str
    classes: tuple[str, ...]
    task: str
    """`binary-class`, `multi-class` or `ordinal-regression` (MedMNIST's words)."""
    train: Split
    val: Split
    test: Split
    notes: tuple[str, ...] = ()
    """Sentences for a reader of the figures: few patients, doubled images, imbalance."""
    sources: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """The original image files behind each split, where there are any."""
    patients: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Class -> split -> number of different patients, where that is known. Train and val may share patients."""

    pictures: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Split -> (n,) the number of the picture that each image was cut out of, where images are parts of pictures."""
    people: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Split -> (n,) the number of the patient whom each image shows, where patients are known."""

    scaling: str = "dataset"
    """Recommended scaling: `dataset` keeps brightness and contrast, `image` removes them."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Type, black and white value by which pixel arrays were read; see `models.images.values`."""
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values that occur in the DICOM headers of the images: `modality`, `body_part`, `view`, `photometric`;
    `NOT_STATED` among them if some images state none."""
    resized: bool = False
    """Whether images were resized when they were read from their files, so that they are not those that a client sees:
    a client resizes once, from the file to the network's size. `check_size` refuses to resize them again."""
    orientation: str = "mirror"
    """Changes that keep the class: `fixed` none, `mirror` left-right mirroring, `any` rotation by 90 degrees too."""

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if self.train.images.ndim == 3 else int(self.train.images.shape[3])

    @property
    def few_patients(self) -> bool:
        """Whether the training images show a handful of patients. False where patients are unknown."""
        return 0 < sum(counts.get("train", 0) for counts in self.patients.values()) < _FEW_PATIENTS

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return int(self.train.images.shape[1]), int(self.train.images.shape[2])

    def check_size(self, size: int) -> None:
        """Refuse a network of another size than the images were resized to when they were read.

        Its features at use would be those of other images: files are then resized once, and not twice.

        Raises:
            InputError: such a size; the text says how to read the images.
        """
        if self.resized and self.size != (size, size):
            raise InputError(
                f"The images of '{self.name}' were resized to {self.size[0]} x {self.size[1]} when they were read; "
                f"this network takes {size} x {size}, and at use each file is resized once. Read them with "
                f"models.datasets.load(..., size={size})."
            )

    def splits(self) -> Iterator[tuple[str, Split]]:
        """The three splits with their names."""
        yield from (("train", self.train), ("val", self.val), ("test", self.test))

    def with_notes(self, *notes: str) -> "Dataset":
        """The same set with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    @property
    def digest(self) -> str:
        """SHA-256 over classes, images and labels of all splits, in hex: the identity of the data behind a figure."""
        total = hashlib.sha256("\0".join(self.classes).encode())
        for name, split in self.splits():
            total.update(name.encode())
            for digest in split.digests():
                total.update(digest)
            total.update(split.labels.astype("<i8").tobytes())
        return total.hexdigest()
