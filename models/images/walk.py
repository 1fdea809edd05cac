"""Search for files below a folder. Nothing is left out in silence: what cannot be entered or read is given as well."""

import os
from collections.abc import Iterator
from pathlib import Path


def walk_files(folder: Path) -> Iterator[Path]:
    """Find everything below a folder but the folders that are entered, in the order of the names.

    Besides files these are links to folders, which are not followed, folders that may not be listed, pipes and other
    special files: the reader of an image refuses each with the reason. Hidden files are skipped.
    """
    unlisted: list[Path] = []
    for here, folders, names in os.walk(folder, onerror=lambda error: unlisted.append(Path(error.filename))):
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links)
        yield from (Path(here) / name for name in sorted([*names, *links]) if not name.startswith("."))
        yield from unlisted
        unlisted.clear()
    yield from unlisted


def describe_entry(path: Path) -> str:
    """The kind of something found, for a count: a file's suffix in lower case, or why it is no file."""
    if path.is_symlink() and not path.is_file():
        return "link to a folder or to nothing"
    if path.is_dir():
        return "folder that cannot be listed"
    if not path.is_file():
        return "pipe or other special file"
    return path.suffix.lower() or "no suffix"
