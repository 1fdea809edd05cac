"""Folders below a target that may hold links: they are walked and made one by one, and no link is followed.

A folder that is made is flushed to the disk with its name, so that what is written into it is not lost with it. Knows
nothing of what the files are.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cipher.errors import StorageProblem
from cipher.files.folder_syncs import flush_folder

_BY_DESCRIPTOR = os.open in os.supports_dir_fd and os.mkdir in os.supports_dir_fd


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises:
        StorageProblem: it cannot be made, or something else is in its place.
    """
    try:
        _make_with_parents(folder)
    except OSError as error:
        raise StorageProblem(f"Cannot make the folder {folder}: {error.strerror or error}.") from error


def _make_with_parents(folder: Path) -> None:
    try:
        folder.mkdir()
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        _make_with_parents(folder.parent)
        folder.mkdir(exist_ok=True)
    except OSError:
        if not folder.is_dir():
            raise
        return
    with suppress(PermissionError):  # a folder that may be written and not read cannot be opened for it
        flush_folder(folder.parent)


@contextmanager
def enter(base: Path, parts: tuple[str, ...]) -> Iterator[int | None]:
    """Open the folder `parts` below `base`, making missing folders; give its descriptor (None on Windows).

    Args:
        base: a folder, which may itself be reached through links; made if it is missing.
        parts: names of the folders below it.

    Raises:
        StorageProblem: one of them is a link or no folder, or cannot be made.
    """
    make_folder(base)
    if not _BY_DESCRIPTOR:
        _walk_paths(base, parts)
        yield None
        return
    at = base
    try:
        descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _explain_refusal(base, error) from error
    try:
        for part in parts:
            at = at / part
            inner = _step(descriptor, part, at)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def folds_case(folder: Path) -> bool:
    """Whether the file system of a folder takes names that differ in case alone for one name.

    Raises:
        StorageProblem: nothing can be written there.
    """
    name = f".he-infer-{secrets.token_hex(8)}-CASE"
    try:
        probe = folder / name
        probe.touch(mode=0o600)
        try:
            return (folder / name.lower()).exists()
        finally:
            probe.unlink()
    except OSError as error:
        raise _explain_refusal(folder, error) from error


def _step(descriptor: int, part: str, at: Path) -> int:
    try:
        with suppress(FileExistsError):
            os.mkdir(part, dir_fd=descriptor)
            os.fsync(descriptor)
        return os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
    except OSError as error:
        if at.is_symlink():
            raise StorageProblem(
                f"{at} is a link, and nothing is restored through links: remove it, or restore into another folder."
            ) from error
        raise _explain_refusal(at, error) from error


def _walk_paths(base: Path, parts: tuple[str, ...]) -> None:
    at = base
    for part in parts:
        at = at / part
        if at.is_symlink() or at.is_junction() if hasattr(at, "is_junction") else at.is_symlink():
            raise StorageProblem(f"{at} is a link, and nothing is restored through links: remove it.")
        make_folder(at)


def _explain_refusal(path: Path, error: OSError) -> StorageProblem:
    return StorageProblem(f"Cannot write below {path}: {error.strerror or error}.")
