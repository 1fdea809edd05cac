"""Large opaque objects by path: evaluation keys and sealed images, in a folder or at an object store by URL (obstore).

Paths are the server's own; nothing that a client names reaches this module. A blob is created once and never changed:
a reader sees all of it or none.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, from_url

from he_infer.refusals import Code, Refused

CHUNK = 1 << 20


class Blobs:
    """A store of blobs.

    Args:
        place: a folder, made where it is missing, or the URL of an object store (`s3://bucket/prefix`, ...).
    """

    def __init__(self, place: Path | str) -> None:
        self._folder = place if isinstance(place, Path) else None
        with _documented():
            if self._folder is not None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._store = LocalStore(self._folder) if self._folder is not None else from_url(str(place))

    def put_new(self, path: str, data: bytes | Path) -> None:
        """Store bytes, or a file's content, at a path that must not exist yet; durable when this returns.

        Raises:
            Refused: `exists`, `storage`.
        """
        with _documented():
            obstore.put(self._store, path, data, mode="create", use_multipart=False)
            self._make_durable(path)

    def get(self, path: str) -> bytes:
        """Read a whole blob.

        Raises:
            Refused: `damaged` where it is gone, `storage`.
        """
        with _documented():
            return bytes(obstore.get(self._store, path).bytes())

    def stream(self, path: str, start: int, end: int) -> Iterator[bytes]:
        """Read bytes `start` to `end` (exclusive) in pieces of about a mebibyte.

        Opened before this returns, so that a missing blob is known before an answer has begun.

        Raises:
            Refused: `damaged` where it is gone, `storage`.
        """
        if start == end:
            return iter(())
        with _documented():
            result = obstore.get(self._store, path, options={"range": (start, end)})
        return _pieces(result.stream(min_chunk_size=CHUNK))

    def delete(self, path: str) -> None:
        """Remove a blob; one that is gone already is fine.

        Raises:
            Refused: `storage`.
        """
        with _documented(missing_is_fine=True):
            obstore.delete(self._store, path)

    def list(self, prefix: str, *, older_than: timedelta = timedelta(0)) -> list[str]:
        """The paths of the blobs below a prefix that were written at least so long ago."""
        bound = datetime.now(UTC) - older_than
        with _documented():
            return [
                meta["path"]
                for batch in obstore.list(self._store, prefix)
                for meta in batch
                if meta["last_modified"] <= bound
            ]

    def _make_durable(self, path: str) -> None:
        """A local store renames without fsync: a power cut could still take back what a client was told is stored."""
        if self._folder is None:
            return
        file = self._folder / path
        for target in (file, file.parent):
            descriptor = os.open(target, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _pieces(stream: Iterable[bytes]) -> Iterator[bytes]:
    yield from stream


@contextmanager
def _documented(*, missing_is_fine: bool = False) -> Iterator[None]:
    """Turn the store's own errors into documented refusals."""
    try:
        yield
    except AlreadyExistsError as error:
        raise Refused(Code.EXISTS, "An object is stored at this place already; nothing was changed.") from error
    except (NotFoundError, FileNotFoundError) as error:
        if not missing_is_fine:
            raise Refused(Code.DAMAGED, "A stored object is missing from the store.") from error
    except (BaseError, OSError) as error:
        raise Refused(
            Code.STORAGE, "The store of objects cannot be used at the moment; try again later.", retry_after=5.0
        ) from error
