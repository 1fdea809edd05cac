"""The audit log: who did what and when, never the content; append-only, each line chained to the one before.

A line is a JSON object; its `hash` is the SHA-256 of the previous line's hash and of the line's own canonical JSON
without `hash` and `mac`. Changing, dropping or inserting a line breaks the chain from there on. Whoever can write the
file could make a whole new chain: `mac` is a MAC of the hash under a key that exists for one line only, see
`audit_key`. Cutting lines off the end breaks neither: compare the last hash with one kept elsewhere (`verify` returns
it, and the server logs it when it starts).
"""

import errno
import fcntl
import hashlib
import hmac
import io
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from he_infer.errors import NotAuthentic, NotThisFormat
from he_infer.server.evidence.audit_key import AuditKey, evolve, seal
from he_infer.wire.envelope import canonical_json
from he_infer.wire.refusals import Code, Refused

GENESIS = "0" * 64
_TAIL = 64 * 1024


@dataclass(frozen=True)
class Chain:
    """The outcome of a verification."""

    entries: int
    head: str
    """Hash of the last line (64 zeros for an empty log)."""


class AuditLog:
    """Appends to one file. Several processes may share it: each append holds the file's lock.

    Args:
        path: the file; created with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = AuditKey(path)
        self._last: tuple[tuple[int, int], dict[str, Any]] | None = None
        """The file and its size after the last line that this process wrote, and that line."""
        self._lock = threading.Lock()

    def append(self, action: str, *, client: str, request_id: str, outcome: str, **details: str | int) -> None:
        """Add one line.

        Args:
            action: what was asked for, such as `keys.register`.
            client: the client's id, or `operator`.
            request_id: the id that the log and the answer carry too.
            outcome: `ok`, or the code of the refusal.
            details: identifiers, digests and sizes. Never content.

        Raises:
            OSError: the file cannot be written.
            NotThisFormat: the file's last line is not one of an audit log.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        # Unbuffered: on a full disk, closing the file must not try to write the rest of a line again.
        with self._lock, os.fdopen(descriptor, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            last = self._find_last(file)
            number = last["seq"] + 1 if last else 0
            entry = {
                "seq": number,
                "time": round(time.time(), 3),
                "action": action,
                "client": client,
                "request_id": request_id,
                "outcome": outcome,
                "details": details,
                "prev": last["hash"] if last else GENESIS,
            }
            if last is None:
                self._key.begin()
            text = canonical_json(entry)
            digest = hashlib.sha256(text).hexdigest()
            with self._key.of_line(number) as key:
                mac = "" if key is None else seal(key, digest)
                _write_whole(file, b'%b,"hash":"%b","mac":"%b"}\n' % (text[:-1], digest.encode(), mac.encode()))
            self._last = (_state(file), {**entry, "hash": digest})

    def _find_last(self, file: io.FileIO) -> dict[str, Any] | None:
        """Return the last line: remembered where nobody else has written since, otherwise read from the file's end."""
        if self._last is not None and self._last[0] == _state(file):
            return self._last[1]
        return _last_entry(file)

    def by_operator(self, action: str, **details: str | int) -> None:
        """Add one line for a command of the operator; see `append`.

        Raises:
            OSError, NotThisFormat: as `append`.
        """
        self.append(action, client="operator", request_id="-", outcome="ok", **details)

    def repair(self) -> int:
        """Cut off a last line that was being written when the machine stopped, and say so in the log.

        Such a line was never acknowledged to anyone. Its bytes are kept beside the log, in `<name>.torn`.

        Returns:
            How many bytes were cut off.

        Raises:
            OSError: the file cannot be read or written.
        """
        if not self._path.exists():
            return 0
        with self._lock, self._path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL)
            file.seek(start)
            tail = file.read()
            torn = tail[tail.rfind(b"\n") + 1 :]
            if not torn:
                return 0
            with self._path.with_name(f"{self._path.name}.torn").open("ab") as aside:
                aside.write(torn)
            file.truncate(start + len(tail) - len(torn))
        digest = hashlib.sha256(torn).hexdigest()
        self.by_operator("audit.repair", bytes=len(torn), sha256=digest)
        return len(torn)

    def head(self) -> str:
        """Hash of the last line (64 zeros for an empty log), to be kept elsewhere.

        Raises:
            OSError: the file cannot be read.
            NotThisFormat: the file's last line is not one of an audit log.
        """
        if not self._path.exists():
            return GENESIS
        with self._path.open("rb") as file:
            last = _last_entry(file)
        return str(last["hash"]) if last else GENESIS

    def read_whole(self) -> tuple[bytes | None, bytes | None]:
        """Read the log up to its last whole line, and the file of the next line's key, as of one moment.

        A key that is newer than the lines could never be used with them again. Writers wait only while the key is read:
        the lines before it are never changed.

        Returns:
            The bytes of both files; None for a file that does not exist.

        Raises:
            OSError: a file cannot be read.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return None, self._key.read()
        with file:
            fcntl.flock(file, fcntl.LOCK_SH)
            size, key = os.fstat(file.fileno()).st_size, self._key.read()
            fcntl.flock(file, fcntl.LOCK_UN)
            lines = file.read(size)
            return lines[: lines.rfind(b"\n") + 1], key

    @contextmanager
    def watching(
        self, action: str, client: str, request_id: str, **details: str | int
    ) -> Iterator[dict[str, str | int]]:
        """Append one line for the operation in the block, with `ok` or the code of the refusal that ends it.

        Yields:
            The details, to which the block may add.

        Raises:
            Refused: `storage` where the log cannot be written: what cannot be logged is not acknowledged.
        """
        outcome = Code.INTERNAL.value
        try:
            yield details
            outcome = "ok"
        except Refused as refused:
            outcome = refused.code.value
            raise
        finally:
            try:
                self.append(action, client=client, request_id=request_id, outcome=outcome, **details)
            except (OSError, NotThisFormat) as error:
                raise Refused(
                    Code.STORAGE, "The audit log cannot be written, and nothing is served without it; try again later."
                ) from error


def verify(path: Path, first_key: bytes | None = None) -> Chain:
    """Check the whole chain and, with the log's first key, the MAC of each line.

    Raises:
        NotAuthentic: a line was changed, dropped, inserted or cut short; the message names the first bad line.
        OSError: the file cannot be read.
    """
    head, count, key = GENESIS, 0, first_key
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            entry = _parse(line)
            claimed, mac = (entry.pop("hash", None), entry.pop("mac", None)) if entry else (None, None)
            if entry is None or entry.get("seq") != count or entry.get("prev") != head or _hash(entry) != claimed:
                raise NotAuthentic(
                    f"The audit log breaks at line {number}: it does not follow from the lines before it. "
                    "Compare with a backup; lines from there on cannot be trusted."
                )
            if key is not None and not hmac.compare_digest(str(mac), seal(key, str(claimed))):
                raise NotAuthentic(
                    f"Line {number} of the audit log was not written when it says: its MAC does not follow from the "
                    "log's first key. Lines from there on cannot be trusted."
                )
            head, count, key = str(claimed), count + 1, None if key is None else evolve(key)
    return Chain(count, head)


def _state(file: io.FileIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size


def _hash(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(entry)).hexdigest()


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _write_whole(file: io.FileIO, line: bytes) -> None:
    """Append all of a line or nothing: a full disk must not leave half of one, after which nothing could be logged."""
    size = file.seek(0, os.SEEK_END)
    written = 0
    try:
        written = file.write(line)
    finally:
        if written != len(line):
            file.truncate(size)
    if written != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _last_entry(file: IO[bytes]) -> dict[str, Any] | None:
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return None
    file.seek(max(0, size - _TAIL))
    entry = _parse(file.read().splitlines(keepends=True)[-1])
    if entry is None or not isinstance(entry.get("seq"), int) or not isinstance(entry.get("hash"), str):
        raise NotThisFormat(
            "The audit log ends in a broken line. Run 'he-infer audit verify', keep the file, start a new one."
        )
    return entry
