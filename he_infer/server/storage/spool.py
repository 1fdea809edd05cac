"""Bodies that are being received: private files, counted by client as their bytes arrive."""

import hashlib
import mmap
import os
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from he_infer.wire.refusals import Code, Refused

_LEFT_SECONDS = 3600.0
"""Age since its last write from which a file belongs to no request."""


class Spool:
    """A folder of bodies that are being received. Files that a killed server left in it are removed.

    Args:
        folder: made with mode 0700 where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._held: defaultdict[str, int] = defaultdict(int)
        folder.mkdir(mode=0o700, exist_ok=True)
        bound = time.time() - _LEFT_SECONDS
        for path in folder.iterdir():
            with suppress(OSError):  # a second server on this folder may remove it at the same moment
                if path.stat().st_mtime < bound:
                    path.unlink()

    def open(self, client_id: str, *, limit: int, room: int | None = None) -> "Incoming":
        """Open a file for one body.

        Args:
            client_id: the client that sends the body.
            limit: largest size in bytes.
            room: bytes that all bodies of this client together may take here; None: no bound.

        Raises:
            Refused: `storage`.
        """
        return Incoming(self, client_id, limit, room)

    def hold(self, client_id: str, size: int, room: int | None) -> None:
        """Count bytes that have arrived.

        Raises:
            Refused: `quota` where the client's bodies would take more than `room` bytes.
        """
        with self._lock:
            if room is not None and self._held[client_id] + size > room:
                raise Refused(
                    Code.QUOTA,
                    f"The bodies that this client is sending exceed the {room} bytes left of its storage quota.",
                )
            self._held[client_id] += size

    def release(self, client_id: str, size: int) -> None:
        """Give counted bytes back."""
        with self._lock:
            self._held[client_id] -= size
            if not self._held[client_id]:
                del self._held[client_id]


class Incoming:
    """A body that is being received: written to a private file, hashed and counted; deleted when the block ends."""

    def __init__(self, spool: Spool, client_id: str, limit: int, room: int | None) -> None:
        self.path = spool.folder / secrets.token_hex(16)
        self.size = 0
        self._spool = spool
        self._client_id = client_id
        self._limit = limit
        self._room = room
        self._hash = hashlib.sha256()
        with _storage():
            self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")

    def write(self, data: bytes) -> None:
        """Write a piece.

        Raises:
            Refused: `too_large`, `quota`, `storage`.
        """
        if self.size + len(data) > self._limit:
            raise Refused(Code.TOO_LARGE, f"The body may have at most {self._limit} bytes.")
        self._spool.hold(self._client_id, len(data), self._room)
        self.size += len(data)
        self._hash.update(data)
        with _storage():
            self._file.write(data)

    def finish(self) -> str:
        """Close the file; returns the SHA-256 of all pieces."""
        with _storage():
            self._file.close()
        return self._hash.hexdigest()

    @contextmanager
    def mapped(self) -> Iterator[memoryview]:
        """The whole body, read from the file where it is needed and not held in memory."""
        with _storage():
            self._file.flush()
            mapping = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        with mapping, memoryview(mapping) as view:
            yield view

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # After a full disk has refused a piece, closing tries to write the buffered rest and fails again.
            with suppress(OSError):
                self._file.close()
        finally:
            self._spool.release(self._client_id, self.size)
            self.path.unlink(missing_ok=True)


@contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(Code.STORAGE, "The server cannot write to its disk at the moment.", retry_after=30.0) from error
