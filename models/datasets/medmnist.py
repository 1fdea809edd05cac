"""Sets in MedMNIST's `.npz` layout: by name, or any file of that layout.

Layout: `{train,val,test}_images` (N, H, W) or (N, H, W, 3), `{train,val,test}_labels` (N,) or (N, 1) integers.
"""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from models.datasets import medmnist_index as index
from models.datasets.checks import checked
from models.datasets.dataset import SPLITS, Dataset, Split
from models.datasets.npz_members import list_members, read_member
from models.errors import BadContents, BadLayout, InputError, NoSuchDataset
from models.images.values import choose_range, to_canonical

DATA_FOLDER_VARIABLE = "HE_INFER_DATA"
_SIDES = (8, 1024)
"""Accepted sides in pixels. MedMNIST has 28 to 224; networks of bundles take up to 1024."""


def load_named(name: str) -> Dataset:
    """One of MedMNIST's two-dimensional sets: `breastmnist`, or `breastmnist_64` for its 64-pixel version.

    It is taken from the folder that the environment variable HE_INFER_DATA names, if the file lies there (whatever
    its bytes: a site may keep a rebuilt copy); else fetched once from Zenodo record 10519652, checked against the
    official MD5 sum, and kept in the user's cache.

    Raises:
        NoSuchDataset: not a name of MedMNIST's, or it cannot be fetched.
        BadLayout, BadContents: as `load_file`.
    """
    known = index.split_name(name)
    if known is None:
        raise NoSuchDataset(
            f"'{name}' is not one of MedMNIST's sets: {', '.join(index.ENTRIES)}, each also as NAME_64 (or _128, _224)."
        )
    base, size = known
    folder = os.environ.get(DATA_FOLDER_VARIABLE)
    if folder:
        local = Path(folder) / index.file_name(base, size)
        if local.is_file():
            return load_file(local)
    return load_file(_fetch(base, size))


def load_file(path: Path) -> Dataset:
    """Any `.npz` file of MedMNIST's layout. No checksum is asked for: the file is the user's own.

    Raises:
        NoSuchDataset: no such file.
        BadLayout: not an `.npz` file, or arrays missing.
        BadContents: images or labels that cannot be learned from; see `checks.checked`.
        OSError: no access, or no space for the temporary file that holds a large set's images.
    """
    arrays = _read(path)
    base_and_size = index.split_name(path.stem)
    entry = index.ENTRIES[base_and_size[0]] if base_and_size else None
    labels, notes = _all_labels(path, arrays)
    highest = max((int(values.max()) for values in labels.values() if len(values)), default=0)
    named = _class_names(path, arrays.get("classes"))
    if named is not None and highest >= len(named):
        raise BadContents(
            f"{path}: labels run to {highest}, but 'classes' names {len(named)}. One name for each label."
        )
    if named is not None:
        classes = named
    elif entry is not None and highest < len(entry.classes):
        classes = entry.classes
    else:
        classes = tuple(f"class {label}" for label in range(highest + 1))
    images = {name: _images(path, name, arrays[f"{name}_images"]) for name in SPLITS}
    try:
        values = choose_range(images)
    except InputError as error:
        raise BadContents(f"{path}: {error}") from error
    splits = {name: Split(to_canonical(images.pop(name), values), labels[name]) for name in SPLITS}
    return checked(
        Dataset(
            name=path.stem,
            classes=classes,
            task=entry.task if entry else ("binary-class" if len(classes) == 2 else "multi-class"),
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            notes=tuple(notes if values.type == "uint8" else [*notes, f"Pixels are {values}."]),
            orientation=index.orientation(base_and_size[0] if base_and_size else "", classes),
            values=values.to_json(),
        )
    )


def _read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    wanted = [f"{split}_{what}" for split in SPLITS for what in ("images", "labels")]
    if not path.is_file():
        raise NoSuchDataset(f"There is no file {path}. Give a data set file (.npz), a folder, or a known name.")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_members(path, archive, wanted)
    except BadLayout:
        raise
    except Exception as error:  # numpy, zipfile and the parser of array headers raise many kinds on foreign bytes
        if _is_single_array(path):
            raise BadLayout(f"{path} is a single array, not an .npz file with {', '.join(wanted)}.") from error
        raise BadLayout(
            f"{path} cannot be read as an .npz data set ({type(error).__name__}). Expected a whole file with "
            f"{', '.join(wanted)} and no pickled objects: fetch or export it again."
        ) from error


def _read_members(path: Path, archive: zipfile.ZipFile, wanted: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    names = list_members(archive)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise BadLayout(
            f"{path} lacks {', '.join(missing)}. An .npz data set needs {', '.join(wanted)}; this file has "
            f"{', '.join(names) or 'nothing'}."
        )
    return {name: read_member(archive, name) for name in [*wanted, "classes"] if name in names}


def _is_single_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX


def _images(path: Path, split: str, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise BadContents(
            f"{path}: {split}_images has the shape {images.shape}. Expected (N, H, W), (N, H, W, 1) or (N, H, W, 3); "
            "three-dimensional volumes are not read."
        )
    if not all(_SIDES[0] <= side <= _SIDES[1] for side in images.shape[1:3]):
        raise BadContents(
            f"{path}: {split}_images are {images.shape[1]} x {images.shape[2]} pixels. Sides of {_SIDES[0]} to "
            f"{_SIDES[1]} are read: resize them."
        )
    return images


def _class_names(path: Path, given: np.ndarray[Any, Any] | None) -> tuple[str, ...] | None:
    """The names in the array `classes`, where there is one."""
    if given is None:
        return None
    if given.ndim != 1 or given.dtype.kind not in "USiu" or len(given) < 2:
        raise BadContents(
            f"{path}: 'classes' has the shape {given.shape} and type {given.dtype}. Expected names, (N,)."
        )
    try:
        names = tuple(one.decode() if isinstance(one, bytes) else str(one) for one in given.tolist())
    except UnicodeDecodeError as error:
        raise BadContents(f"{path}: 'classes' holds names that are not UTF-8.") from error
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise BadContents(f"{path}: 'classes' holds a name twice or an empty one. Give each class a name of its own.")
    return names


def _all_labels(
    path: Path, arrays: dict[str, np.ndarray[Any, Any]]
) -> tuple[dict[str, np.ndarray[Any, np.dtype[np.int64]]], list[str]]:
    """The labels of each split as (N,), and a note where they came one-hot."""
    given = {name: arrays[f"{name}_labels"] for name in SPLITS}
    notes = []
    if all(_is_one_hot(values) for values in given.values()):
        width = {values.shape[1] for values in given.values()}
        if len(width) > 1:
            raise BadContents(f"{path}: one-hot labels have {sorted(width)} columns. All splits need the same classes.")
        given = {name: values.argmax(axis=1) for name, values in given.items()}
        notes.append(f"The labels came one-hot, {width.pop()} columns: the column of the 1 was taken as the class.")
    return {name: _labels(path, name, values) for name, values in given.items()}, notes


def _is_one_hot(labels: np.ndarray[Any, Any]) -> bool:
    return bool(
        labels.ndim == 2
        and labels.shape[1] > 1
        and labels.dtype.kind in "iufb"
        and np.isin(labels, (0, 1)).all()
        and (labels.astype(np.int64).sum(axis=1) == 1).all()
    )


def _labels(path: Path, split: str, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise BadContents(
            f"{path}: {split}_labels has {labels.shape[1]} columns, and not one 1 in every row (a multi-label set, "
            "such as chestmnist). Only sets with one class an image are read: whole numbers (N,) or (N, 1), or one-hot "
            "rows, which are taken as labels.argmax(axis=1)."
        )
    if labels.ndim not in (1, 2):
        raise BadContents(f"{path}: {split}_labels has the shape {labels.shape}. Expected (N,) or (N, 1).")
    flat = labels.reshape(-1)
    if flat.dtype.kind == "f" and np.isfinite(flat).all() and (flat == np.floor(flat)).all():
        flat = flat.astype(np.int64)
    if flat.dtype.kind not in "iub":
        raise BadContents(f"{path}: {split}_labels are of type {labels.dtype}. Expected whole numbers from 0 up.")
    if len(flat) and (flat.min() < 0 or flat.max() > 9999):
        raise BadContents(f"{path}: {split}_labels run from {flat.min()} to {flat.max()}. Expected classes from 0 up.")
    return flat.astype(np.int64)


def _fetch(base: str, size: int) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the caller reports progress
    try:
        found: str = pooch.retrieve(
            url=index.url(base, size),
            known_hash=f"md5:{index.md5(base, size)}",
            fname=index.file_name(base, size),
            path=pooch.os_cache("he-infer"),
            progressbar=False,
        )
    except (OSError, ValueError) as error:
        reason = "its bytes do not match the official MD5 sum" if isinstance(error, ValueError) else "no connection"
        raise NoSuchDataset(
            f"'{index.file_name(base, size)}' could not be fetched from Zenodo record {index.RECORD} ({reason}). "
            f"Download it elsewhere and name its folder in {DATA_FOLDER_VARIABLE}, or give the file's path."
        ) from error
    return Path(found)
