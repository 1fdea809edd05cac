"""Large opaque objects by path: evaluation keys and sealed images, in a folder or at an object store by URL (obstore).

Paths are the server's own; nothing that a client names reaches this module. A blob is created once and never changed:
a reader sees all of it or none.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, from_url

from he_infer.errors import UsageError
from he_infer.files import sync
from he_infer.wire.refusals import Code, Refused

if TYPE_CHECKING:  # these exist for the type checker alone
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

CHUNK = 1 << 20
# Larger blobs are written in parts, so that they need not be in memory at once.
WHOLE = 64 << 20
_PATIENCE: "ClientConfig" = {"connect_timeout": timedelta(seconds=5), "read_timeout": timedelta(seconds=30)}
_RETRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


class Blobs:
    """A store of blobs.

    Args:
        place: a folder, made where it is missing, or the URL of an object store (`s3://bucket/prefix`). Credentials,
            region and endpoint come from the environment (AWS_ACCESS_KEY_ID and so on), never from the URL.

    Raises:
        UsageError: the URL names no kind of store that is known.
        Refused: `storage`.
    """

    def __init__(self, place: Path | str) -> None:
        self._folder = place if isinstance(place, Path) else None
        self._store: ObjectStore
        with _translate_errors():
            if self._folder is not None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._store = LocalStore(self._folder)
                return
        try:
            self._store = from_url(
                str(place),
                client_options={**_PATIENCE, "allow_http": _http_allowed()},
                retry_config=_RETRIES,
            )
        except (BaseError, ValueError, TypeError) as error:
            raise UsageError(
                f"{place} is not the URL of an object store; expected one such as s3://bucket/prefix."
            ) from error

    def put_new(self, path: str, data: bytes | Path) -> None:
        """Store bytes, or a file's content, at a path that must not exist yet; durable when this returns.

        Up to 64 MiB the store itself ensures that only one of two writers creates the blob. A larger blob is written
        in parts, which no store creates conditionally: its path is looked up before.

        Raises:
            Refused: `exists`, `storage`.
        """
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        with _translate_errors():
            if size <= WHOLE:
                obstore.put(self._store, path, data, mode="create", use_multipart=False)
            elif self._exists(path):
                raise Refused(Code.EXISTS, "An object is stored at this place already; nothing was changed.")
            else:
                obstore.put(self._store, path, data, use_multipart=True)
            self._make_durable(path)

    def get(self, path: str) -> bytes:
        """Read a whole blob.

        Raises:
            Refused: `damaged` where it is gone, `storage`.
        """
        with _translate_errors():
            return bytes(obstore.get(self._store, path).bytes())

    def stream(self, path: str, start: int, end: int) -> Iterator[bytes]:
        """Read bytes `start` to `end` (exclusive) in pieces of about a mebibyte.

        Opened before this returns, so that a missing blob is known before an answer has begun.

        Raises:
            Refused: `damaged` where it is gone, `storage`.
        """
        if start == end:
            return iter(())
        with _translate_errors():
            result = obstore.get(self._store, path, options={"range": (start, end)})
        return _pieces(result.stream(min_chunk_size=CHUNK))

    def digest(self, path: str) -> tuple[int, str] | None:
        """Read a blob through; returns its size and its SHA-256 in hex, or None where it is gone.

        Raises:
            Refused: `storage`.
        """
        found, size = hashlib.sha256(), 0
        try:
            with _translate_errors():
                for piece in obstore.get(self._store, path).stream(min_chunk_size=CHUNK):
                    found.update(piece)
                    size += len(piece)
        except Refused as refused:
            if refused.code is Code.DAMAGED:
                return None
            raise
        return size, found.hexdigest()

    def ping(self) -> None:
        """Check that the store answers and, where it is a folder, would let a blob be written.

        Raises:
            Refused: `storage`.
        """
        with _translate_errors():
            self._exists("ping")
            if self._folder is not None and not os.access(self._folder, os.W_OK | os.X_OK):
                raise PermissionError

    def _exists(self, path: str) -> bool:
        try:
            obstore.head(self._store, path)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def delete(self, path: str) -> None:
        """Remove a blob; one that is gone already is fine.

        Raises:
            Refused: `storage`.
        """
        with _translate_errors(missing_is_fine=True):
            obstore.delete(self._store, path)

    def list(self, prefix: str, *, older_than: timedelta = timedelta(0)) -> list[str]:
        """The paths of the blobs below a prefix that were written at least so long ago."""
        return [path for page in self.pages(prefix, older_than=older_than) for path in page]

    def pages(self, prefix: str | None = None, *, older_than: timedelta = timedelta(0)) -> Iterator[Sequence[str]]:
        """Yield the same paths, some thousand at a time, for stores of any size."""
        bound = datetime.now(UTC) - older_than
        with _translate_errors():
            for batch in obstore.list(self._store, prefix, chunk_size=1000):
                yield [meta["path"] for meta in batch if meta["last_modified"] <= bound]

    def drop_leftovers(self, *, older_than: timedelta) -> int:
        """Remove files that killed writers left half written; returns how many.

        In a folder these are files with a `#` in their name, which are never listed. At an object store they are
        parts without a whole, which the bucket's own rule for incomplete uploads removes.
        """
        if self._folder is None:
            return 0
        bound, count = datetime.now(UTC) - older_than, 0
        with _translate_errors(missing_is_fine=True):
            for file in self._folder.rglob("*#*"):
                if datetime.fromtimestamp(file.stat().st_mtime, UTC) <= bound:
                    file.unlink(missing_ok=True)
                    count += 1
        return count

    def _make_durable(self, path: str) -> None:
        """Sync a local store's file and folders: it renames without fsync, so a power cut could lose a stored blob."""
        if self._folder is None:
            return
        file = self._folder / path
        for target in (file, file.parent):
            sync(target)


def _http_allowed() -> bool:
    """Tell whether AWS_ALLOW_HTTP allows plain HTTP; obstore reads it only where no other client option is given."""
    return os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")


def _pieces(stream: Iterable[bytes]) -> Iterator[bytes]:
    with _translate_errors():
        yield from stream


@contextmanager
def _translate_errors(*, missing_is_fine: bool = False) -> Iterator[None]:
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
