"""Makes a data set of labelled image files: one size, and no patient or picture in two splits."""

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.checks import checked
from models.datasets.dataset import NOT_STATED, SPLITS, Dataset, Split
from models.datasets.medmnist_index import orientation
from models.errors import BadContents, ImageError
from models.images.dicom import KIND_TAGS
from models.images.load import load_frames, measure, to_grey
from models.images.preprocessing import Preprocessing
from models.images.scratch import IN_MEMORY, reserve_array

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
"""Shares of training, validation and test where the data has no splits: those of MedMNIST."""

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
    """The patient's identifier, where the data states it; otherwise a DICOM file's own PatientID is used."""


@dataclass(frozen=True, eq=False)
class _Loaded:
    item: Labelled
    place: int
    """Where its pixels lie in the file of reduced images; the image as it was read is dropped at once."""
    channels: int
    grey: bool
    """Whether all channels are alike: some programs store grey pictures in colour."""
    shape: tuple[int, ...]
    group: str
    frames: int
    remarks: tuple[str, ...]
    kind: Mapping[str, str]


def gather(name: str, items: Sequence[Labelled], *, seed: int, sides: tuple[int, int]) -> Dataset:
    """Read all files, one at a time, and make a data set of them.

    Images are cut to their central square and resized to the median short side, within `sides` (least and largest side
    in pixels); uint16. Where the data has no splits, patients (or equal pictures, where patients are unknown) are
    divided 7:1:2; a missing validation or test split is taken from the training images in the same shares.

    Raises:
        BadContents: no image can be read, or fewer than two classes are left; see `checks.checked`.
        OSError: there is no space for the temporary files that hold the reduced images.
    """
    if not items:
        raise BadContents(f"'{name}' names no image at all.")
    given = [item.split for item in items]
    _check_given(name, given)
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, prefix="he-infer-") as reduced:
        return _gather(name, items, seed, sides, reduced)


def _gather(name: str, items: Sequence[Labelled], seed: int, sides: tuple[int, int], reduced: IO[bytes]) -> Dataset:
    size, loaded, unreadable, notes = _load(items, sides, reduced)
    if not loaded:
        raise BadContents(f"None of the {len(items)} images of '{name}' can be read. The first reason: {unreadable[0]}")
    classes = _classes([one.item.label for one in loaded])
    if len(classes) < 2:
        raise BadContents(
            f"'{name}' holds a single class ({classes[0]}). A classifier needs at least two: one subfolder, or one "
            "label in the table, for each."
        )
    labels = np.array([classes.index(one.item.label) for one in loaded], dtype=np.int64)
    dealt, said = _splits(loaded, labels, len(classes), seed)
    notes += said
    channels = 1 if all(one.grey for one in loaded) else 3
    splits = {}
    for split in SPLITS:
        chosen = [index for index, where in enumerate(dealt) if where == split]
        splits[split] = Split(_stack([loaded[index] for index in chosen], size, channels, reduced), labels[chosen])
    if unreadable:
        notes.append(f"{len(unreadable)} of {len(items)} files were left out. The first reason: {unreadable[0]}")
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
            kinds={
                name: tuple(sorted({one.kind.get(name, NOT_STATED) for one in loaded}))
                for name in KIND_TAGS
                if any(name in one.kind for one in loaded)
            },
            resized=any(min(one.shape) != size for one in loaded),
            orientation=orientation("", classes),
        )
    )


def _describe_groups(loaded: Sequence[_Loaded]) -> str:
    """Describe the units that were divided among the splits, and count the images that name no patient."""
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


def _load(
    items: Sequence[Labelled], sides: tuple[int, int], reduced: IO[bytes]
) -> tuple[int, list[_Loaded], list[str], list[str]]:
    """The images' side, the images, the reasons for leaving others out, and notes on sizes, frames and kinds.

    The pixels, cut and resized, are appended to `reduced`, so that memory grows with neither their size nor number.
    """
    shorts, unreadable = [], []
    readable = []
    for item in items:
        try:
            rows, columns = measure(item.path)
        except ImageError as error:
            unreadable.append(str(error))
            continue
        readable.append(item)
        shorts.append(min(rows, columns))
    if not readable:
        return 0, [], unreadable, []
    side = int(np.clip(np.median(shorts), *sides))
    plain = {channels: Preprocessing.plain(side, channels) for channels in (1, 3)}
    loaded = []
    for item in readable:
        try:
            (image,) = load_frames(item.path)
        except ImageError as error:
            unreadable.append(str(error))
            continue
        pixels = image.pixels
        content = hashlib.sha256(str(pixels.shape).encode() + _to_uint16(pixels).tobytes()).hexdigest()
        channels = 3 if pixels.ndim == 3 else 1
        grey = channels == 1 or float(np.ptp(pixels, axis=2).max()) <= _GREY
        sized = _to_uint16(plain[channels].apply(pixels[None])[0].transpose(1, 2, 0))
        patient = item.patient or (image.identifiers.patient if image.identifiers else None)
        group = f"{_PATIENT}{patient}" if patient else content
        place = reduced.tell()
        reduced.write(sized.tobytes())
        loaded.append(
            _Loaded(item, place, channels, grey, pixels.shape[:2], group, image.frames, image.remarks, image.kind)
        )
    return side, loaded, unreadable, _describe_images(loaded, side)


def _describe_images(loaded: Sequence[_Loaded], side: int) -> list[str]:
    notes = []
    sizes = Counter(one.shape for one in loaded)
    if loaded and set(sizes) != {(side, side)}:
        low, high = min(sizes), max(sizes)
        found = f"{low[0]} x {low[1]} pixels"
        if len(sizes) > 1:
            found = f"of {len(sizes)} sizes, {low[0]} x {low[1]} to {high[0]} x {high[1]} pixels"
        notes.append(f"The images are {found}; each was cut to its central square and resized to {side} x {side}.")
    several = [one for one in loaded if one.frames > 1]
    if several:
        notes.append(
            f"{len(several)} file(s) hold several frames, up to {max(one.frames for one in several)}; the middle one "
            "of each was taken."
        )
    odd = Counter(remark for one in loaded for remark in one.remarks)
    notes += [f"{count} image(s): {remark}" for remark, count in sorted(odd.items())]
    return notes


def _classes(labels: Sequence[str]) -> tuple[str, ...]:
    """The names in order: by number where all are numbers, else by the alphabet."""
    names = sorted(set(labels))
    # Numbers in the digits 0-9: '²' is a digit to Python, but no number. '1' and '01' keep the alphabet's order.
    return tuple(sorted(names, key=int) if all(re.fullmatch("-?[0-9]+", name) for name in names) else names)


def _check_given(name: str, given: Sequence[str | None]) -> None:
    """Refuse splits that cannot be used, before anything is read."""
    if any(given) and (None in given or "train" not in given):
        raise BadContents(
            f"'{name}' has splits of its own, but {'some images are in none' if None in given else ''}"
            f"{' and ' if None in given and 'train' not in given else ''}"
            f"{'no image is in train' if 'train' not in given else ''}. Give every image one of train, val, test "
            "(train alone is enough), or give none a split."
        )


def _splits(
    loaded: Sequence[_Loaded], labels: NDArray[np.int64], classes: int, seed: int
) -> tuple[list[str], list[str]]:
    """The split of each image, and a note where splits were chosen here."""
    given = [one.item.split for one in loaded]
    missing = [split for split in SPLITS if split not in given]
    if not missing:
        return [str(split) for split in given], []
    pool = [index for index, split in enumerate(given) if split in (None, "train")]
    wanted = {split: SHARES[split] for split in SPLITS if split == "train" or split in missing}
    dealt = _deal([loaded[index].group for index in pool], labels[pool], classes, seed, wanted)
    where = [str(split) for split in given]
    for index, split in zip(pool, dealt, strict=True):
        where[index] = split
    among = _describe_groups([loaded[index] for index in pool])
    if len(missing) == len(SPLITS):
        return where, [f"The splits were made here (seed {seed}), 7:1:2, {among}"]
    named = " and ".join("validation" if split == "val" else split for split in missing if split != "train")
    return where, [f"There is no {named} split; it was taken from the training images here (seed {seed}), {among}"]


def _deal(
    groups: Sequence[str], labels: NDArray[np.int64], classes: int, seed: int, shares: Mapping[str, float]
) -> list[str]:
    """Assign groups to splits, each to the split that lacks most of the classes in the group."""
    counts: dict[str, Counter[int]] = {}
    for group, label in zip(groups, labels.tolist(), strict=True):
        counts.setdefault(group, Counter())[label] += 1
    order = sorted(counts)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda group: -sum(counts[group].values()))  # large groups first: small ones then correct the shares
    total = np.bincount(labels, minlength=classes)
    shares = {split: share / sum(shares.values()) for split, share in shares.items()}
    have = {split: np.zeros(classes) for split in shares}
    where: dict[str, str] = {}
    for group in order:

        def lack(split: str, group: str = group) -> float:
            want = np.maximum(shares[split] * total, 1e-9)
            return float(sum(n * (1 - have[split][label] / want[label]) for label, n in counts[group].items()))

        best = max(shares, key=lambda split: (round(lack(split), 9), shares[split]))
        where[group] = best
        for label, n in counts[group].items():
            have[best][label] += n
    return [where[group] for group in groups]


def _stack(chosen: Sequence[_Loaded], side: int, channels: int, reduced: IO[bytes]) -> NDArray[np.uint16]:
    """Images in one array (N, side, side[, 3]).

    Grey ones are repeated to three channels if any is in colour; otherwise grey ones that are stored in colour become
    one channel by their luminance, as at use.
    """
    images = reserve_array((len(chosen), side, side, channels), np.uint16)
    for image, one in zip(images, chosen, strict=True):
        reduced.seek(one.place)
        content = reduced.read(side * side * one.channels * images.itemsize)
        pixels = np.frombuffer(content, np.uint16).reshape(side, side, one.channels)
        image[:] = np.rint(to_grey(pixels))[..., None] if one.channels > channels else pixels
    return images[..., 0] if channels == 1 else images


def _to_uint16(values: NDArray[Any]) -> NDArray[np.uint16]:
    return np.asarray(np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16))
