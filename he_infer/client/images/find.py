"""Search for the image files that a command's paths stand for."""

from collections.abc import Sequence
from pathlib import Path

from he_infer.errors import ImageError


def find_images(given: Sequence[Path]) -> list[Path]:
    """The files named, and those below the folders named, in a stable order.

    Whether a file is an image is decided when it is read: a patient's disc holds a README and a DICOMDIR beside its
    images, and each of them becomes a row with a reason. Hidden files are passed over.

    Raises:
        ImageError: a path does not exist, or there is no file at all.
    """
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            files += sorted(entry for entry in path.rglob("*") if entry.is_file() and not entry.name.startswith("."))
        elif path.is_file():
            files.append(path)
        else:
            raise ImageError(f"There is no file or folder {path}. Expected images, or folders of them.")
    if not files:
        raise ImageError(f"There is no file in {', '.join(map(str, given))}. Expected DICOM, PNG or JPEG images.")
    return list(dict.fromkeys(files))
