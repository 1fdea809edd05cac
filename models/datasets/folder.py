"""A folder of images with one subfolder a class, with or without train, val and test folders above them."""

from collections import Counter
from pathlib import Path

from models.datasets.dataset import Dataset
from models.datasets.gather import Labelled, gather
from models.errors import BadContents, BadLayout, NotAnImage
from models.images.load import KINDS, sniff
from models.images.walk import describe_entry, walk_files

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


_JUNK = ("__MACOSX", "$RECYCLE.BIN")
"""Folders that other programs leave behind."""
_NAMED_LIKE_IMAGES = (".dcm", ".dicom", ".ima", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def load_folder(path: Path, *, seed: int, sides: tuple[int, int]) -> Dataset:
    """`path/CLASS/*` or `path/{train,val,test}/CLASS/*`; DICOM, PNG, JPEG, BMP and TIFF files, of any sizes and names.

    Images are found by their content. Other files are left out, and counted in a note.

    Raises:
        BadLayout: an empty folder, one without class folders, or other folders beside those of the splits.
        BadContents: a single class, or a class folder without images.
    """
    if not any(path.iterdir()):
        raise BadLayout(f"The folder {path} is empty. Expected one subfolder of images for each class.")
    subfolders = _subfolders(path)
    if not subfolders:
        raise BadLayout(
            f"The folder {path} has no subfolders. Expected one subfolder of images for each class, or a CSV table of "
            "labels (columns 'file' and 'label') beside the images."
        )
    others: list[Path] = []
    named = [folder for folder in subfolders if folder.name.lower() in _SPLIT_NAMES]
    splits = {_SPLIT_NAMES[folder.name.lower()] for folder in named}
    if "train" in splits and len(splits) > 1 and named != subfolders:
        beside = next(folder for folder in subfolders if folder not in named)
        raise BadLayout(
            f"{path} holds train and test folders, and {beside.name} beside them: it would become a class. Move "
            f"{beside.name} elsewhere, or give {', '.join(folder.name for folder in named)} other names if they are "
            "classes."
        )
    if "train" in splits and named == subfolders:
        items = [
            item
            for folder in named
            for item in _find_labelled(_subfolders(folder), _SPLIT_NAMES[folder.name.lower()], others)
        ]
    else:
        items = _find_labelled(subfolders, None, others)
    if not items:
        raise BadContents(f"No image was found below {path}. Expected {KINDS} files.")
    dataset = gather(path.resolve().name, items, seed=seed, sides=sides)
    if not others:
        return dataset
    kinds = Counter(describe_entry(file) for file in others)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return dataset.with_notes(f"{len(others)} file(s) that are no image were left out ({listed}), first {others[0]}.")


def _subfolders(path: Path) -> list[Path]:
    return sorted(
        entry
        for entry in path.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in _JUNK
    )


def _find_labelled(folders: list[Path], split: str | None, others: list[Path]) -> list[Labelled]:
    """The images below each class folder; files that are none are added to `others`."""
    items: list[Labelled] = []
    for folder in folders:
        files = []
        for file in walk_files(folder):
            # A file with an image's suffix and other content: the reader refuses it with a reason.
            if _is_image(file) or (file.is_file() and file.suffix.lower() in _NAMED_LIKE_IMAGES):
                files.append(file)
            else:
                others.append(file)
        if not files:
            raise BadContents(
                f"The class folder {folder} holds no image. Expected {KINDS} files: add some, or remove the folder."
            )
        items.extend(Labelled(file, folder.name, split) for file in files)
    return items


def _is_image(path: Path) -> bool:
    try:
        return sniff(path) is not None
    except NotAnImage:
        return False
