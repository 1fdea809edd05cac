"""Atomic writes: after a failure there is the old file or the new one.

A new file is written under a temporary name in the same folder, flushed to the disk, put in its place by a rename (or
by a link, where nothing may be replaced), and the folder itself is flushed, so that a power cut leaves one of the two
and never a mixture. This module knows nothing of what the bytes mean.
"""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cipher.errors import AlreadyExists, StorageProblem
from cipher.files.folder_syncs import FolderSyncs

TEMPORARY_SUFFIX = ".he-infer-tmp"
"""Ending of the names of unfinished files. Such a file is never read, and may be removed when nothing is writing."""

PRIVATE = 0o600
"""Mode of files that only their owner may read: sealed objects' keys and restored images."""

_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}" + re.escape(TEMPORARY_SUFFIX), re.DOTALL)
_BY_DESCRIPTOR = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd and os.link in os.supports_dir_fd
"""Whether this system opens files relative to an open folder (not Windows)."""


def is_unfinished(name: str) -> bool:
    """Whether a file's name is one that an interrupted `atomic_write` leaves behind."""
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def atomic_write(
    destination: str | os.PathLike[str],
    *,
    mode: int = PRIVATE,
    replace: bool = True,
    folder: int | None = None,
    syncs: FolderSyncs | None = None,
) -> Iterator[BinaryIO]:
    """Yield a file object; when the block ends without an error, its bytes *become* `destination`, at once and whole.

    If the block raises, or the disk is full, the temporary file is removed and `destination` is as it was.

    Args:
        destination: the path to create or to replace. Its folder must exist.
        mode: permissions of the new file.
        replace: whether an existing file is replaced. With False the write fails where anything has the name, even if
            another process makes it in the meantime.
        folder: descriptor of the open folder that `destination` lies in, where the caller has walked to it; the path
            then only serves messages.
        syncs: collects the folder, which the caller has flushed before it acknowledges the file; flushed here if not
            given.

    Raises:
        AlreadyExists: something has the name and `replace` is False.
        StorageProblem: the file system refused to create, write, flush or rename.
    """
    path = Path(destination)
    with _enter_folder(path, folder) as place:
        temporary = f".{path.name[:40]}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(place.name(temporary), flags, mode, dir_fd=place.descriptor)
        except OSError as error:
            raise _explain_refusal(path, error) from error
        handle = os.fdopen(descriptor, "w+b")
        try:
            try:
                yield handle
                handle.flush()
                _flush(handle.fileno())
                handle.close()
                place.publish(temporary, path.name, replace)
                if syncs is None or not syncs.add(path.parent):
                    place.sync()
            except FileExistsError:
                raise AlreadyExists(f"{path} is there already and is not replaced; choose another name.") from None
            except OSError as error:
                raise _explain_refusal(path, error) from error
        finally:
            with suppress(OSError):
                handle.close()
            with suppress(OSError):
                os.unlink(place.name(temporary), dir_fd=place.descriptor)


def write_bytes(
    destination: str | os.PathLike[str],
    data: bytes,
    *,
    mode: int = PRIVATE,
    replace: bool = True,
    syncs: FolderSyncs | None = None,
) -> None:
    """Write `data` as `destination`, atomically; see `atomic_write`."""
    with atomic_write(destination, mode=mode, replace=replace, syncs=syncs) as handle:
        handle.write(data)


def write_link(destination: Path, target: str, *, replace: bool, folder: int | None) -> None:
    """Make a symbolic link to `target`, atomically; arguments as `atomic_write`.

    Raises:
        AlreadyExists: something has the name and `replace` is False.
        StorageProblem: the file system refused.
    """
    try:
        with _enter_folder(destination, folder) as place:
            temporary = f".{destination.name[:40]}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
            if not replace:
                os.symlink(target, place.name(destination.name), dir_fd=place.descriptor)
            else:
                os.symlink(target, place.name(temporary), dir_fd=place.descriptor)
                place.publish(temporary, destination.name, replace)
            place.sync()
    except FileExistsError:
        raise AlreadyExists(f"{destination} is there already and is not replaced.") from None
    except OSError as error:
        raise _explain_refusal(destination, error) from error


class _Place:
    """A folder in which files are made: by its descriptor, so that nobody can put another one in its place."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self.descriptor = descriptor

    def name(self, name: str) -> str:
        return name if self.descriptor is not None else str(self._path / name)

    def publish(self, temporary: str, name: str, replace: bool) -> None:
        at = self.descriptor
        if replace:
            os.replace(self.name(temporary), self.name(name), src_dir_fd=at, dst_dir_fd=at)
            return
        try:
            # A link, unlike a rename, fails where the name is taken.
            os.link(self.name(temporary), self.name(name), src_dir_fd=at, dst_dir_fd=at)
        except FileExistsError:
            raise
        except OSError:
            # No links here (FAT, some network file systems): reserve the name, then rename over the reservation.
            os.close(os.open(self.name(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE, dir_fd=at))
            os.replace(self.name(temporary), self.name(name), src_dir_fd=at, dst_dir_fd=at)

    def sync(self) -> None:
        """Flush the folder's entries to the disk, so that a rename in it survives a power cut."""
        if self.descriptor is not None:  # Windows can neither open nor flush a folder; its rename is journalled.
            os.fsync(self.descriptor)


@contextmanager
def _enter_folder(path: Path, folder: int | None) -> Iterator[_Place]:
    if folder is not None or not _BY_DESCRIPTOR:
        yield _Place(path.parent, folder)
        return
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError as error:
        raise _explain_refusal(path, error) from error
    try:
        yield _Place(path.parent, descriptor)
    finally:
        os.close(descriptor)


def _flush(descriptor: int) -> None:
    """Flush a file's bytes and what it takes to read them; its times may follow later."""
    flush = getattr(os, "fdatasync", os.fsync)
    flush(descriptor)


def _explain_refusal(path: Path, error: OSError) -> StorageProblem:
    reason = error.strerror or type(error).__name__
    return StorageProblem(
        f"Cannot write {path}: {reason}. Nothing was changed. Free space or permissions there, or choose another place."
    )
