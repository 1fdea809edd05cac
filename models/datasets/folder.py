"""A folder of images with one subfolder a class, with or without train, val and test folders above them."""

from pathlib import Path

from models.datasets.dataset import Dataset
from models.datasets.gather import Labelled, gather
from models.errors import BadContents, BadLayout
from models.images.load import SUFFIXES

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def load_folder(path: Path, *, seed: int) -> Dataset:
    """`path/CLASS/*` or `path/{train,val,test}/CLASS/*`; DICOM, PNG and JPEG files, of any sizes.

    Raises:
        BadLayout: an empty folder, or one without class folders.
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
    if all(folder.name.lower() in _SPLIT_NAMES for folder in subfolders):
        items = [
            item for folder in subfolders for item in _labelled(_subfolders(folder), _SPLIT_NAMES[folder.name.lower()])
        ]
    else:
        items = _labelled(subfolders, None)
    if not items:
        raise BadContents(f"No image was found below {path}. Expected files ending in {', '.join(SUFFIXES)}.")
    return gather(path.resolve().name, items, seed=seed)


def _subfolders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _labelled(folders: list[Path], split: str | None) -> list[Labelled]:
    items: list[Labelled] = []
    for folder in folders:
        # DICOM files often have no suffix at all.
        files = sorted(
            file
            for file in folder.rglob("*")
            if file.is_file() and not file.name.startswith(".") and file.suffix.lower() in (*SUFFIXES, "")
        )
        if not files:
            raise BadContents(
                f"The class folder {folder} holds no image. Expected files ending in {', '.join(SUFFIXES)}: add some, "
                "or remove the folder."
            )
        items.extend(Labelled(file, folder.name, split) for file in files)
    return items
