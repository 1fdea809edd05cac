"""Search for the image files below the paths of a command."""

import os
from collections.abc import Sequence
from pathlib import Path

from he_infer.errors import ImageError


def find_images(given: Sequence[Path]) -> list[Path]:
    """Find the given files, and all files below the given folders, in a stable order.

    Whether a file is an image is decided when it is read: a patient's disc holds a README and a DICOMDIR beside its
    images, and each of them becomes a row with a reason. So do links to folders, which are not followed, folders that
    may not be listed, and paths that do not exist beside some that do. Hidden files are skipped.

    Raises:
        ImageError: no path exists, or no file was found.
    """
    from models.images.walk import walk_files

    files: list[Path] = []
    if given and not any(os.path.exists(path) for path in given):  # noqa: PTH110 - pathlib raises for long names
        raise ImageError(f"There is no file or folder {given[0]}. Expected images, or folders of them.")
    for path in given:
        if os.path.isdir(path):  # noqa: PTH112 - as above
            files += walk_files(path)
        else:
            files.append(path)
    if not files:
        where = f" in {', '.join(map(str, given))}" if given else ""
        raise ImageError(f"There is no file{where}. Expected DICOM, PNG or JPEG images.")
    return list(dict.fromkeys(files))
