"""The modality set: patches of real DICOM images from installed packages; the class is the kind of scanner.

The images are pydicom's own test files and those of the package pydicom-data. Many of these files are one image in
several encodings, so patients are identified first (by identifiers and by the content of the pictures) and only then
split: no patient is in both training and test. There are very few of them; `Dataset.patients` and `Dataset.notes` say
how few.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from models.datasets.checks import checked
from models.datasets.dataset import Dataset, Split
from models.datasets.patches import Box, fields, split_box
from models.errors import ImageError, NoSuchDataset
from models.images import dicom, display
from models.images.load import load_image, to_grey

CLASSES = ("CT", "MR", "ultrasound", "radiograph")

_CLASS_OF = {
    "CT": "CT",
    "MR": "MR",
    "US": "ultrasound",
    "IVUS": "ultrasound",
    # Every projection of X-rays on a plane: computed, digital, fluoroscopic, angiographic, dental, mammographic.
    **dict.fromkeys(("CR", "DX", "RF", "RG", "XA", "PX", "IO", "MG"), "radiograph"),
}

SIZE = 64
"""Side in pixels to which each field of view is resampled."""
_FIELDS = {"train": (0.35, 0.5, 0.7), "val": (0.2, 0.3), "test": (0.35, 0.5, 0.7)}
"""Sides of the fields as shares of the region's shorter side. The four kinds of image differ in structures of that
size. Single pixels differ too, but their noise depends on the scanner and on the enlargement of the image. Validation
has only a strip of each image, so its fields are smaller."""
_SMALLEST_SIDE = 64
"""Least side in pixels; smaller images are icons and are left out."""
_FRAMES = 4
"""Frames taken of a multi-frame image, evenly spaced: the others are nearly the same picture."""
_VALIDATION = 0.3
"""Share of each training image's area, cut off at one side, that only validation sees."""
_MOST = {"train": 200, "val": 50, "test": 60}
"""Most patches of one patient in each split, so that one large radiograph does not outweigh the rest."""
_SAME_PICTURE = 0.95
"""Correlation of two thumbnails above which two files show one picture, whatever their identifiers say."""
_SEED = 20240118


@dataclass(frozen=True)
class _Picture:
    path: Path
    kind: str
    keys: frozenset[str]
    """Identifiers that two files of one patient share: the patient's, or the study's where that is blank."""
    quality: tuple[bool, bool]
    """Key (lossy, compressed) that sorts several encodings of one picture; the first in this order is used."""


@dataclass(frozen=True)
class _Patient:
    kind: str
    pictures: tuple[_Picture, ...]


@dataclass(frozen=True, eq=False)
class _View:
    """A decoded frame, the region of it that shows the patient, and which picture it is."""

    image: NDArray[np.float32]
    box: Box
    picture: str


@dataclass(frozen=True, eq=False)
class _Piece:
    """A field of view, cut out and resampled, and the picture that it is a part of."""

    pixels: NDArray[np.uint16]
    picture: str


def load_modality() -> Dataset:
    """The modality set: cut-outs of 32 x 32 original pixels, uint16, of four kinds of image. Needs no network.

    Patients of a class are ordered by how many patches they give; the first, third, ... train, the others test.
    Validation comes from the training patients: a strip of each image that no training patch touches.

    Raises:
        NoSuchDataset: the packages that carry the images are not installed.
    """
    files = sorted(path for folder in _folders() for path in folder.rglob("*") if path.is_file())
    patients = _patients([picture for path in files if (picture := _look(path)) is not None])
    splits: dict[str, tuple[list[NDArray[np.uint16]], list[int]]] = {name: ([], []) for name in _MOST}
    pictures: dict[str, list[int]] = {name: [] for name in _MOST}
    people: dict[str, list[int]] = {name: [] for name in _MOST}
    seen: dict[tuple[str, str], int] = {}
    sources: dict[str, list[Path]] = {name: [] for name in _MOST}
    counts: dict[str, dict[str, int]] = {kind: {"train": 0, "test": 0} for kind in CLASSES}
    random = np.random.default_rng(_SEED)
    for label, kind in enumerate(CLASSES):
        own = [(patient, _views(patient)) for patient in patients if patient.kind == kind]
        whole = {id(patient): _cut(views, "test") for patient, views in own}
        own.sort(key=lambda one: (-len(whole[id(one[0])]), one[0].pictures[0].path.name))
        for rank, (patient, views) in enumerate(own):
            role = "train" if rank % 2 == 0 else "test"
            counts[kind][role] += 1
            for name in ("train", "val") if role == "train" else ("test",):
                pieces = whole[id(patient)] if name == "test" else _cut(views, name)
                chosen = sorted(random.permutation(len(pieces))[: _MOST[name]].tolist())
                splits[name][0].extend(pieces[index].pixels for index in chosen)
                splits[name][1].extend([label] * len(chosen))
                pictures[name].extend(
                    seen.setdefault(("picture", pieces[index].picture), len(seen)) for index in chosen
                )
                people[name].extend(
                    [seen.setdefault(("patient", patient.pictures[0].path.name), len(seen))] * len(chosen)
                )
                sources[name].extend(picture.path for picture in patient.pictures)
    return checked(
        Dataset(
            name="modality",
            classes=CLASSES,
            task="multi-class",
            train=_split(*splits["train"]),
            val=_split(*splits["val"]),
            test=_split(*splits["test"]),
            notes=_notes(counts),
            sources={name: tuple(paths) for name, paths in sources.items()},
            patients=counts,
            pictures={name: np.array(numbers, dtype=np.int64) for name, numbers in pictures.items()},
            people={name: np.array(numbers, dtype=np.int64) for name, numbers in people.items()},
            orientation="any",
        )
    )


def _folders() -> list[Path]:
    spec = importlib.util.find_spec("data_store")
    if spec is None or spec.origin is None:
        raise NoSuchDataset(
            "The modality set needs the images of the package pydicom-data. Install it with: pip install pydicom-data"
        )
    return [Path(pydicom.__file__).parent / "data" / "test_files", Path(spec.origin).parent / "data"]


def _look(path: Path) -> _Picture | None:
    """Description of a file's image, from its header; None where it is none of the four kinds."""
    with dicom.quiet():
        try:
            header = dicom.read_header(path)
            kind = _CLASS_OF.get(str(header.get("Modality", "")))
            # A perfusion map states the modality CT, but is computed, and drawn in false colours.
            computed = "PERFUSION" in (header.get("ImageType") or ())
            sides = (int(header.get("Rows", 0)), int(header.get("Columns", 0)))
            patient = str(header.get("PatientID") or "").strip()
            study = str(header.get("StudyInstanceUID") or path)
            quality = (
                str(header.get("LossyImageCompression", "00")) == "01",
                header.file_meta.TransferSyntaxUID.is_compressed,
            )
        except Exception:  # many of these files are damaged on purpose; they are left out
            return None
    if kind is None or computed or min(sides) < _SMALLEST_SIDE:
        return None
    keys = {f"study {study}"} | ({f"patient {patient}"} if patient else set())
    return _Picture(path, kind, frozenset(keys), quality)


def _patients(pictures: Sequence[_Picture]) -> list[_Patient]:
    """Group files into patients: by shared identifiers, then by pictures that look alike."""
    groups: list[list[_Picture]] = []
    for picture in pictures:
        joined = [group for group in groups if any(picture.keys & other.keys for other in group)]
        groups = [group for group in groups if not any(group is one for one in joined)]
        groups.append([*(one for group in joined for one in group), picture])
    patients: list[tuple[list[_Picture], list[NDArray[np.float32]]]] = []
    for group in groups:
        kept: list[tuple[_Picture, NDArray[np.float32]]] = []
        # One encoding of each picture is enough; the least compressed one is the best.
        for picture in sorted(group, key=lambda one: (one.quality, one.path.name)):
            thumbnail = _thumbnail(picture)
            if thumbnail is not None and not any(_alike(thumbnail, other) for _, other in kept):
                kept.append((picture, thumbnail))
        if not kept:
            continue
        for members, thumbnails in patients:
            same_kind = members[0].kind == kept[0][0].kind
            if same_kind and any(_alike(mine, other) for _, mine in kept for other in thumbnails):
                break  # the same picture under another identity: the first one stands for both
        else:
            patients.append(([picture for picture, _ in kept], [thumbnail for _, thumbnail in kept]))
    return [_Patient(members[0].kind, tuple(members)) for members, _ in patients]


def _thumbnail(picture: _Picture) -> NDArray[np.float32] | None:
    try:
        image = to_grey(load_image(picture.path))
    except ImageError:
        return None
    rows = np.linspace(0, image.shape[0], 33).astype(int)
    columns = np.linspace(0, image.shape[1], 33).astype(int)
    means = np.add.reduceat(np.add.reduceat(image, rows[:-1], axis=0), columns[:-1], axis=1)
    areas = np.outer(np.diff(rows), np.diff(columns))
    values = (means / areas).astype(np.float32).ravel()
    deviation = float(values.std())
    return None if deviation == 0 else np.asarray((values - values.mean()) / deviation, dtype=np.float32)


def _alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return float(one @ other) / len(one) > _SAME_PICTURE


def _cut(views: Sequence[_View], split: str) -> list[_Piece]:
    """The patches that a patient gives to a split: whole regions for test, one side of them for train or val."""
    pieces = []
    for view in views:
        first, last = split_box(view.box, _VALIDATION)
        part = {"train": first, "val": last, "test": view.box}[split]
        sides = [round(share * min(view.box.height, view.box.width)) for share in _FIELDS[split]]
        pieces += [_Piece(pixels, view.picture) for pixels in fields(view.image, part, sides=sides, size=SIZE)]
    return pieces


def _views(patient: _Patient) -> list[_View]:
    """Each region of each frame that is taken of a patient, decoded once."""
    views: list[_View] = []
    for picture in patient.pictures:
        dataset = dicom.read(picture.path)
        count = dicom.count_frames(dataset)
        for frame in sorted({round(at) for at in np.linspace(0, count - 1, min(count, _FRAMES))}):
            image = to_grey(display.show(dataset, picture.path, frame))
            views.extend(_View(image, box, f"{picture.path.name}, frame {frame}") for box in _regions(dataset, image))
    return views


def _regions(dataset: pydicom.Dataset, image: NDArray[np.float32]) -> list[Box]:
    """Boxes that hold the picture: for ultrasound the two-dimensional tissue regions, without the text around them."""
    boxes = [
        Box(
            max(int(region.RegionLocationMinY0), 0),
            max(int(region.RegionLocationMinX0), 0),
            min(int(region.RegionLocationMaxY1) + 1, image.shape[0]),
            min(int(region.RegionLocationMaxX1) + 1, image.shape[1]),
        )
        for region in dataset.get("SequenceOfUltrasoundRegions") or ()
        if region.get("RegionSpatialFormat") == 1 and region.get("RegionDataType") == 1
    ]
    boxes = [box for box in boxes if min(box.height, box.width) >= _SMALLEST_SIDE]
    return boxes or [Box(0, 0, image.shape[0], image.shape[1])]


def _split(pieces: list[NDArray[np.uint16]], labels: list[int]) -> Split:
    images = np.stack(pieces) if pieces else np.zeros((0, SIZE, SIZE), dtype=np.uint16)
    return Split(images, np.array(labels, dtype=np.int64))


def _notes(counts: dict[str, dict[str, int]]) -> tuple[str, ...]:
    listed = ", ".join(f"{kind} {counts[kind]['train']} + {counts[kind]['test']}" for kind in CLASSES)
    total = sum(sum(roles.values()) for roles in counts.values())
    return (
        f"Different patients, training + test: {listed}; {total} in all, none in both.",
        "With so few patients the test accuracy says that the whole chain works on real pixels. It does not say how "
        "well modalities are told apart in a hospital: another scanner, body part or protocol may fare quite "
        "otherwise, and patches of one patient are not independent of each other.",
        "Validation patches come from the training patients (a strip of each image that training does not see), so "
        "the validation accuracy is higher than that of new patients.",
    )
