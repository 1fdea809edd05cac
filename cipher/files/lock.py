"""A lock that lets one writer at a time change a file in place."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

if sys.platform == "win32":
    import msvcrt

    @contextmanager
    def exclusive(handle: IO[bytes]) -> Iterator[None]:
        """Hold the file's lock; wait for its present holder."""
        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)
        try:
            yield
        finally:
            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    @contextmanager
    def exclusive(handle: IO[bytes]) -> Iterator[None]:
        """Hold the file's lock; wait for its present holder."""
        fcntl.flock(handle.fileno(), fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle.fileno(), fcntl.LOCK_UN)


@contextmanager
def open_exclusive(path: Path) -> Iterator[BinaryIO]:
    """A file, open for reading and writing in place, with its lock held.

    Where another file took its place while the lock was waited for, that one is opened: changes to the former would be
    lost.

    Raises:
        OSError: it cannot be opened for writing.
    """
    while True:
        with path.open("r+b") as handle, exclusive(handle):
            if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                yield handle
                return
