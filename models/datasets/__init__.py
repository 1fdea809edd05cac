"""Data sets for classification: MedMNIST's layout, image folders, DICOM folders with a table, and the modality set."""

import os
from pathlib import Path

from models.datasets import medmnist_index
from models.datasets.dataset import SPLITS, Dataset, Split
from models.errors import NoSuchDataset

__all__ = ["MODALITY", "SPLITS", "Dataset", "Split", "load"]

SIDES = (28, 64)
"""Least and largest side in pixels that images of folders are resized to by default; training sees no more."""
MODALITY = "modality"
"""The name of the set of DICOM patches that comes with installed packages."""


def load(name_or_path: str | Path, *, seed: int = 0, side: int | None = None, size: int | None = None) -> Dataset:
    """A data set by name or from the user's own files.

    - `modality`: patches of the DICOM images that come with pydicom and pydicom-data; nothing is fetched.
    - `pneumoniamnist`, `breastmnist_64`, ...: MedMNIST's sets; see `medmnist.load_named`.
    - a file `.npz` in MedMNIST's layout.
    - a folder of images with one subfolder a class; see `folder.load_folder`.
    - a DICOM folder with a CSV of labels, or that CSV file; see `dicom_table.load_table`.

    A known name is taken as such unless it is written as a path (with a separator or a suffix). `seed` chooses the
    splits of folders, which have none of their own, and nothing else. `side` is the largest side in pixels that images
    of folders are reduced to (64 by default, the side that training sees). `size` is the exact side in pixels that
    images of folders are resized to, in its place: the size of a given network's input.

    Raises:
        NoSuchDataset: neither a known name nor an existing file or folder.
        BadLayout: a file or folder that follows none of these layouts.
        BadContents: a single class, an empty split, pixels that are not numbers and the like.
    """
    text = str(name_or_path)
    plain = Path(text).name == text and not Path(text).suffix
    if plain and text.lower() == MODALITY:
        from models.datasets.modality import load_modality

        return load_modality()
    if plain and medmnist_index.split_name(text) is not None:
        from models.datasets.medmnist import load_named

        return load_named(text)
    return _load_path(Path(text).expanduser(), seed, (size or SIDES[0], size or side or SIDES[1]))


def _load_path(path: Path, seed: int, sides: tuple[int, int]) -> Dataset:
    if os.path.isdir(path):  # noqa: PTH112 - pathlib raises for names that are too long
        from models.datasets.dicom_table import find_table, load_table
        from models.datasets.folder import load_folder

        table = find_table(path)
        return load_folder(path, seed=seed, sides=sides) if table is None else load_table(table, seed=seed, sides=sides)
    if not os.path.exists(path):  # noqa: PTH110 - as above
        raise NoSuchDataset(
            f"There is no data set '{path}': neither a file, nor a folder, nor a known name. Known names: {MODALITY}, "
            f"{', '.join(medmnist_index.ENTRIES)} (the latter also as NAME_64, NAME_128, NAME_224)."
        )
    if path.suffix.lower() in (".csv", ".tsv"):
        from models.datasets.dicom_table import load_table

        return load_table(path, seed=seed, sides=sides)
    from models.datasets.medmnist import load_file

    return load_file(path)
