"""Search for the image files below the paths of a command."""

import os
from collections.abc import Sequence
from pathlib import Path

from he_infer.errors import ImageError


def find_images(given: Sequence[Path]) -> list[Path]:
    """Find the given files, and all files below the given folders, in a stable order.

    Whether a file is an image is decided when it is read: a patient's disc holds a README and a DICOMDIR beside its
    images, and each of them becomes a row with a reason. So do links to folders, which are not followed, and folders
    that may not be listed. Hidden files are skipped.

    Raises:
        ImageError: a path does not exist, or no file was found.
    """
    from models.images.walk import walk_files

    files: list[Path] = []
    for path in given:
        if os.path.isdir(path):  # noqa: PTH112 - pathlib raises for names that are too long
            files += walk_files(path)
        elif os.path.exists(path):  # noqa: PTH110 - as above
            files.append(path)
        else:
            raise ImageError(f"There is no file or folder {path}. Expected images, or folders of them.")
    if not files:
        where = f" in {', '.join(map(str, given))}" if given else ""
        raise ImageError(f"There is no file{where}. Expected DICOM, PNG or JPEG images.")
    return list(dict.fromkeys(files))
