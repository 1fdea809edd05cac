"""Labelled image files -> a data set: one size for all, and splits that no patient and no picture straddles."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.checks import checked
from models.datasets.dataset import SPLITS, Dataset, Split
from models.datasets.medmnist_index import orientation
from models.errors import BadContents, ImageError
from models.images import dicom
from models.images.load import load_image

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
"""Shares of the splits where the data has none of its own: those of MedMNIST."""

_SIDES = (28, 224)
_GREY = 2.5 / 255
"""Largest difference between the channels of a picture that is grey in truth."""


_PATIENT = "patient "
"""Begins the group of an image whose patient is known; other images are grouped by their pixels."""


@dataclass(frozen=True)
class Labelled:
    """One image file with its class."""

    path: Path
    label: str
    split: str | None = None
    """`train`, `val` or `test` where the data says so."""
    patient: str | None = None
    """Whoever is in the picture, where the data says so; a DICOM file's own PatientID is used otherwise."""


@dataclass(frozen=True, eq=False)
class _Loaded:
    item: Labelled
    pixels: NDArray[np.uint16]
    shape: tuple[int, ...]
    group: str


def gather(name: str, items: Sequence[Labelled], *, seed: int) -> Dataset:
    """Read all files and make a data set of them.

    Images are cut to their central square and resized to the median short side, between 28 and 224 pixels; uint16.
    Where the data has no splits, patients (or equal pictures, where patients are unknown) are dealt out 7:1:2.

    Raises:
        BadContents: no image can be read, or fewer than two classes are left; see `checks.checked`.
    """
    if not items:
        raise BadContents(f"'{name}' names no image at all.")
    loaded, unreadable = _load(items)
    if not loaded:
        raise BadContents(f"None of the {len(items)} images of '{name}' can be read. The first reason: {unreadable[0]}")
    classes = _classes([one.item.label for one in loaded])
    if len(classes) < 2:
        raise BadContents(
            f"'{name}' holds a single class ({classes[0]}). A classifier needs at least two: one subfolder, or one "
            "label in the table, for each."
        )
    labels = np.array([classes.index(one.item.label) for one in loaded], dtype=np.int64)
    given = [one.item.split for one in loaded]
    dealt = _given(name, given) if any(given) else _deal([one.group for one in loaded], labels, len(classes), seed)
    notes, images = _sized(loaded)
    splits = {}
    for split in SPLITS:
        chosen = np.array([where == split for where in dealt], dtype=bool)
        splits[split] = Split(images[chosen], labels[chosen])
    if unreadable:
        notes.append(f"{len(unreadable)} of {len(items)} files were left out. The first reason: {unreadable[0]}")
    if not any(given):
        notes.append(f"The splits were dealt out here (seed {seed}), 7:1:2, {_describe_groups(loaded)}")
    return checked(
        Dataset(
            name=name,
            classes=classes,
            task="binary-class" if len(classes) == 2 else "multi-class",
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            notes=tuple(notes),
            sources={
                split: tuple(one.item.path for one, where in zip(loaded, dealt, strict=True) if where == split)
                for split in SPLITS
            },
            orientation=orientation("", classes),
        )
    )


def _describe_groups(loaded: Sequence[_Loaded]) -> str:
    """Say among whom the splits were dealt out, and how many images name no patient."""
    known = [one.group for one in loaded if one.group.startswith(_PATIENT)]
    unknown = len(loaded) - len(known)
    among = f"among {len(set(known))} patients ({len(known)} images)"
    if not unknown:
        return f"{among}: no patient is in two splits."
    risk = (
        f"{unknown} of {len(loaded)} images name no patient, so images of one patient may lie in training and in test, "
        "and the test figures may be too good. Equal pictures are kept together."
    )
    return f"{among}; {risk}" if known else f"by picture; {risk}"


def _load(items: Sequence[Labelled]) -> tuple[list[_Loaded], list[str]]:
    loaded, unreadable = [], []
    for item in items:
        try:
            image = load_image(item.path)
            patient = item.patient or _patient(item.path)
        except ImageError as error:
            unreadable.append(str(error))
            continue
        pixels = np.rint(image * np.float32(65535)).astype(np.uint16)
        content = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        loaded.append(_Loaded(item, pixels, image.shape, f"{_PATIENT}{patient}" if patient else content))
    return loaded, unreadable


def _patient(path: Path) -> str | None:
    """The PatientID of a DICOM file; None for other files and for blank ones."""
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:132] != b"DICM":
        return None
    with dicom.quiet():
        return str(dicom.read(path).get("PatientID") or "").strip() or None


def _classes(labels: Sequence[str]) -> tuple[str, ...]:
    """The names in order: by number where all are numbers, else by the alphabet."""
    names = set(labels)
    if all(name.lstrip("-").isdigit() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _given(name: str, given: Sequence[str | None]) -> list[str]:
    """The data's own splits; where it has no validation split, an error says so."""
    missing = [split for split in SPLITS if split not in given]
    if None in given or missing:
        raise BadContents(
            f"'{name}' has splits of its own, but {'some images are in none' if None in given else ''}"
            f"{' and ' if None in given and missing else ''}{f'no image is in {missing}' if missing else ''}. Give "
            "every image one of train, val, test, or give none a split."
        )
    return [split for split in given if split is not None]


def _deal(groups: Sequence[str], labels: NDArray[np.int64], classes: int, seed: int) -> list[str]:
    """Deal groups out to the splits, each time to the one that lacks most of what the group holds."""
    counts: dict[str, Counter[int]] = {}
    for group, label in zip(groups, labels.tolist(), strict=True):
        counts.setdefault(group, Counter())[label] += 1
    order = sorted(counts)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda group: -sum(counts[group].values()))  # large groups first: small ones even things out
    total = np.bincount(labels, minlength=classes)
    have = {split: np.zeros(classes) for split in SPLITS}
    where: dict[str, str] = {}
    for group in order:

        def lack(split: str, group: str = group) -> float:
            want = np.maximum(SHARES[split] * total, 1e-9)
            return float(sum(n * (1 - have[split][label] / want[label]) for label, n in counts[group].items()))

        best = max(SPLITS, key=lambda split: (round(lack(split), 9), SHARES[split]))
        where[group] = best
        for label, n in counts[group].items():
            have[best][label] += n
    return [where[group] for group in groups]


def _sized(loaded: Sequence[_Loaded]) -> tuple[list[str], NDArray[np.uint16]]:
    from models.images.preprocessing import Preprocessing

    colour = any(
        one.pixels.ndim == 3 and float(np.ptp(one.pixels.astype(np.float32), axis=2).max()) > _GREY * 65535
        for one in loaded
    )
    shorts = [min(one.shape[:2]) for one in loaded]
    side = int(np.clip(np.median(shorts), *_SIDES))
    plain = Preprocessing.plain(side, 3 if colour else 1)
    images = np.empty((len(loaded), side, side, 3) if colour else (len(loaded), side, side), dtype=np.uint16)
    for index, one in enumerate(loaded):
        pixels = plain.apply([one.pixels])[0].permute(1, 2, 0).numpy()
        images[index] = _to_uint16(pixels if colour else pixels[..., 0])
    sizes = Counter(one.shape[:2] for one in loaded)
    if len(sizes) == 1 and (side, side) in sizes:
        return [], images
    low, high = min(sizes), max(sizes)
    return [
        f"The images come in {len(sizes)} size(s), {low[0]} x {low[1]} to {high[0]} x {high[1]} pixels; each was cut "
        f"to its central square and resized to {side} x {side}."
    ], images


def _to_uint16(values: NDArray[Any]) -> NDArray[np.uint16]:
    return np.asarray(np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16))
