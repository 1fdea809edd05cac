"""Backup of a server's whole state into one folder while it runs, and restore into empty stores.

    manifest.json      format, version, time, counts, digests of the files below, and a MAC over all of it under a key
                       that is not in the backup; written last, so that a folder without it is no backup
    metadata.sqlite3   all rows as of one moment, whatever the server's own database is
    blobs/             every blob that those rows name, read through and compared with their SHA-256
    audit.jsonl        the audit log up to its last whole line
    audit.key          the key of the line after it, read under the same lock
    signing.key        the key of the receipts

The rows are copied first and their blobs after them; a blob is created before its row and never changed, so each row
finds its blob, or its client has deleted it since, and then the row is dropped from the copy as well. Everything that
was acknowledged before the backup began is therefore in it.
"""

import hashlib
import hmac
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from he_infer.errors import NotAuthentic, NotThisFormat, UnsupportedVersion, UsageError
from he_infer.files import PRIVATE, write_bytes
from he_infer.server.evidence.audit_key import AuditKey
from he_infer.server.evidence.audit_log import AuditLog
from he_infer.server.metadata import BlobRecord, Metadata
from he_infer.server.storage.blobs import Blobs
from he_infer.wire.envelope import canonical_json
from he_infer.wire.refusals import Code, Refused

FORMAT, VERSION = "he-infer-backup", 2
MANIFEST, DATABASE, BLOBS, AUDIT, AUDIT_KEY, SIGNING_KEY = (
    "manifest.json",
    "metadata.sqlite3",
    "blobs",
    "audit.jsonl",
    "audit.key",
    "signing.key",
)
Progress = Callable[[int, int], None]


@dataclass
class Copied:
    """The outcome of a backup or a restore."""

    rows: dict[str, int] = field(default_factory=dict)
    blobs: int = 0
    bytes: int = 0
    seconds: float = 0.0
    lost: list[BlobRecord] = field(default_factory=list)
    """Blobs that were missing or damaged before the copy."""


@dataclass(frozen=True)
class State:
    """Locations of a server's state."""

    metadata: Metadata
    blobs: Blobs
    audit: Path
    signing_key: Path

    @property
    def audit_key(self) -> Path:
        """Path of the key of the audit log's next line."""
        return AuditKey(self.audit).path


def load_backup_key(path: Path, *, create: bool) -> bytes:
    """Read the 32-byte key that authenticates backups. No backup holds it: whoever can change one must not have it.

    Args:
        path: a file of 64 hex digits.
        create: make it, with mode 0600, where it is missing.

    Raises:
        NotThisFormat: the file holds no such key.
        OSError: it cannot be read or written.
    """
    if create and not path.exists():
        write_bytes(path, secrets.token_bytes(32).hex().encode() + b"\n", mode=PRIVATE, replace=False)
    try:
        key = bytes.fromhex(path.read_bytes().decode("utf-8-sig").strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise NotThisFormat(f"{path} holds no key of backups; expected 64 hex digits.")
    return key


def backup(state: State, folder: Path, key: bytes, progress: Progress = lambda _done, _all: None) -> Copied:
    """Copy a server's state into a new folder of mode 0700; the server may run meanwhile.

    Args:
        state: what to copy.
        folder: must not exist, or be empty.
        key: authenticates the manifest; see `load_backup_key`.
        progress: called with the bytes copied and the bytes there are.

    Raises:
        UsageError: the folder holds something.
        Refused: `storage`.
        OSError: the folder cannot be written.
    """
    started = time.monotonic()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; a backup needs a folder of its own.")
    copy = Metadata.sqlite(folder / DATABASE)
    try:
        result = Copied(rows=state.metadata.rows.copy_to(copy.rows))
        gone = _copy_blobs(copy, state.blobs, Blobs(folder / BLOBS), folder, result, progress, live=state.metadata)
        copy.rows.drop_blobs(gone)
        copy.settle()
    finally:
        copy.close()
    lines, audit_key = AuditLog(state.audit).read_whole()
    signing_key = state.signing_key.read_bytes() if state.signing_key.exists() else None
    for name, content in ((AUDIT, lines), (AUDIT_KEY, audit_key), (SIGNING_KEY, signing_key)):
        if content is not None:
            write_bytes(folder / name, content, mode=PRIVATE)
    names = (DATABASE, AUDIT, AUDIT_KEY, SIGNING_KEY)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "made": int(time.time()),
        "schema": copy.revision,
        "rows": result.rows,
        "blobs": result.blobs,
        "bytes": result.bytes,
        "lost": [record.path for record in result.lost],
        "files": {name: _sha256(folder / name) for name in names if (folder / name).exists()},
    }
    manifest["mac"] = _mac(key, manifest)
    write_bytes(folder / MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n", mode=PRIVATE)
    result.seconds = time.monotonic() - started
    return result


def restore(folder: Path, state: State, key: bytes | None, progress: Progress = lambda _done, _all: None) -> Copied:
    """Restore a backup into empty stores; the server must not run yet. An interrupted restore can be run again.

    Args:
        folder: what `backup` made.
        state: a database without clients and a store without their blobs.
        key: the key that the backup was made with. With None the MAC is not checked: all tokens of the backup
            are revoked and its keys of receipts and of the audit log are left out, so that it admits nobody.
        progress: called with the bytes copied and the bytes there are.

    Raises:
        UsageError: the database has clients already, or there is an audit log of another history.
        NotThisFormat, UnsupportedVersion: the folder is no (finished) backup, or one of another version.
        NotAuthentic: the backup was changed after it was made, or was made with another key.
        Refused: `storage`.
        OSError: a file cannot be read or written.
    """
    started = time.monotonic()
    _check_manifest(folder, key)
    taken = [(AUDIT, state.audit), (AUDIT_KEY, state.audit_key), (SIGNING_KEY, state.signing_key)]
    if key is None:
        taken = taken[:1]
    if not state.metadata.rows.is_empty():
        raise UsageError("The database holds clients already; a restore needs an empty one.")
    for name, target in taken:
        if target.exists() and (folder / name).exists() and target.read_bytes() != (folder / name).read_bytes():
            raise UsageError(
                f"{target} exists already and differs from the backup's; a restore needs an empty data folder."
            )
    result = Copied()
    # The backup itself is only read: it may lie on a medium that cannot be written, or be of an older schema.
    with tempfile.TemporaryDirectory(prefix=".restoring-", dir=state.audit.parent) as private:
        shutil.copyfile(folder / DATABASE, Path(private) / DATABASE)
        copy = Metadata.sqlite(Path(private) / DATABASE)
        try:
            _copy_blobs(copy, Blobs(folder / BLOBS), state.blobs, Path(private), result, progress, live=copy)
            for name, target in taken:
                if (folder / name).exists():
                    write_bytes(target, (folder / name).read_bytes(), mode=PRIVATE)
            if key is None:
                copy.tokens.revoke_all()
            # Last: until these rows are there, a server on these stores serves nothing, and never a part.
            result.rows = copy.rows.copy_to(state.metadata.rows)
        finally:
            copy.close()
    result.seconds = time.monotonic() - started
    return result


def _copy_blobs(
    rows: Metadata,
    source: Blobs,
    sink: Blobs,
    spool: Path,
    result: Copied,
    progress: Progress,
    *,
    live: Metadata,
) -> list[str]:
    """Copy the blobs that rows name; returns the paths of those that were deleted in `live` meanwhile."""
    total = sum(record.size for record in rows.blobs.named())
    gone = []
    temporary = spool / f".copying-{secrets.token_hex(8)}"
    try:
        for record in rows.blobs.named():
            if _copy(record, source, sink, temporary):
                result.blobs += 1
                result.bytes += record.size
            elif live is not rows and live.blobs.unnamed([record.path]):
                gone.append(record.path)
            else:
                result.lost.append(record)
            progress(result.bytes, total)
    finally:
        temporary.unlink(missing_ok=True)
    return gone


def _copy(record: BlobRecord, source: Blobs, sink: Blobs, temporary: Path) -> bool:
    """Copy a blob and compare it with its row on the way; False where it is missing or differs."""
    found, size = hashlib.sha256(), 0
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        try:
            for piece in source.stream(record.path, 0, record.size):
                found.update(piece)
                size += len(piece)
                file.write(piece)
        except Refused as refused:
            if refused.code is not Code.DAMAGED:
                source.ping()
            return False
    if (size, found.hexdigest()) != (record.size, record.sha256):
        return False
    try:
        sink.put_new(record.path, temporary)
    except Refused as refused:
        if refused.code is not Code.EXISTS or sink.digest(record.path) != (record.size, record.sha256):
            raise
    return True


def _mac(key: bytes, manifest: Mapping[str, Any]) -> str:
    covered = {name: value for name, value in manifest.items() if name != "mac"}
    return hmac.digest(key, b"he-infer/backup\n" + canonical_json(covered), "sha256").hex()


def _check_manifest(folder: Path, key: bytes | None) -> None:
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise NotThisFormat(f"{folder} holds no {MANIFEST}: it is no backup, or one that was broken off.") from error
    except (ValueError, RecursionError) as error:
        raise NotThisFormat(f"{folder / MANIFEST} is not JSON; the backup is damaged.") from error
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("files"), dict)
    ):
        raise NotThisFormat(f"{folder / MANIFEST} is not the manifest of a backup made by he-infer.")
    if manifest.get("version") != VERSION:
        raise UnsupportedVersion(
            f"{folder} is a backup of version {manifest.get('version')}; this release reads version {VERSION}."
        )
    if key is not None and not hmac.compare_digest(str(manifest.get("mac")), _mac(key, manifest)):
        raise NotAuthentic(
            f"{folder} was changed after it was made, or was made with another key. Compare it with another copy, or "
            "give the right --backup-key. With --without-key it is restored so that it admits nobody."
        )
    for name, digest in manifest["files"].items():
        if name not in (DATABASE, AUDIT, AUDIT_KEY, SIGNING_KEY):
            raise NotThisFormat(f"{folder / MANIFEST} names a file that does not belong in a backup.")
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise NotThisFormat(f"{folder / name} is missing or not what the manifest says; the backup is damaged.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
