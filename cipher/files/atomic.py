"""Files that are either the old ones or the new ones, whatever happens in between.

A new file is written under a temporary name in the same folder, flushed to the disk, renamed over the old one, and the
folder itself is flushed, so that a power cut leaves one of the two and never a mixture. This module knows nothing of
what the bytes mean.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cipher.errors import StorageProblem

TEMPORARY_SUFFIX = ".he-infer-tmp"
"""How the names of unfinished files end. Such a file is never read, and may be removed when nothing is writing."""

PRIVATE = 0o600
"""Mode of files that only their owner may read: sealed objects' keys and restored images."""


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut."""
    if os.name == "nt":  # Windows can neither open nor flush a folder; its rename is journalled.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(destination: str | os.PathLike[str], *, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """Yield a file object; when the block ends without an error, its bytes *become* `destination`, at once and whole.

    If the block raises, or the disk is full, the temporary file is removed and `destination` is as it was.

    Args:
        destination: the path to create or to replace. Its folder must exist.
        mode: permissions of the new file.

    Raises:
        StorageProblem: the file system refused to create, write, flush or rename.
    """
    path = Path(destination)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    except OSError as error:
        raise _refused(path, error) from error
    handle = os.fdopen(descriptor, "w+b")
    try:
        try:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            handle.close()
            temporary.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise _refused(path, error) from error
    finally:
        with suppress(OSError):
            handle.close()
        with suppress(OSError):
            temporary.unlink()


def write_bytes(destination: str | os.PathLike[str], data: bytes, *, mode: int = PRIVATE) -> None:
    """Write `data` as `destination`, atomically; see `atomic_write`."""
    with atomic_write(destination, mode=mode) as handle:
        handle.write(data)


def _refused(path: Path, error: OSError) -> StorageProblem:
    reason = error.strerror or type(error).__name__
    return StorageProblem(
        f"Cannot write {path}: {reason}. Nothing was changed. Free space or permissions there, or choose another place."
    )
