"""Search for the image files below the paths of a command."""

from collections.abc import Sequence
from pathlib import Path

from he_infer.errors import ImageError


def find_images(given: Sequence[Path]) -> list[Path]:
    """Find the given files, and all files below the given folders, in a stable order.

    Whether a file is an image is decided when it is read: a patient's disc holds a README and a DICOMDIR beside its
    images, and each of them becomes a row with a reason. Hidden files are skipped.

    Raises:
        ImageError: a path does not exist, or no file was found.
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
        where = f" in {', '.join(map(str, given))}" if given else ""
        raise ImageError(f"There is no file{where}. Expected DICOM, PNG or JPEG images.")
    return list(dict.fromkeys(files))
