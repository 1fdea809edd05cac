"""The key that authenticates audit lines: used for one line, then replaced by its own hash (forward security).

    audit.key           the key of the next line and its number; it authenticates nothing that was written before
    audit-*.first-key   the key of a log's first line, made once: the operator moves it off this machine

An intruder who takes the machine over finds the key of the next line and cannot compute an older one. The holder of the
first key therefore sees any change to the lines up to that moment. The construction is that of B. Schneier
and J. Kelsey, "Secure audit logs to support computer forensics", 1999.
"""

import hashlib
import hmac
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from he_infer.errors import NotThisFormat
from he_infer.files import PRIVATE, write_bytes

_STATE = struct.Struct("<Q32s")
KEY_BYTES = 32


class AuditKey:
    """The evolving key beside an audit log. The caller holds the log's lock.

    Args:
        log: the audit log's path; the key lies beside it.
    """

    def __init__(self, log: Path) -> None:
        self.path = log.with_name("audit.key")
        self._folder = log.parent

    def begin(self) -> None:
        """Make the key of a log that has no line yet, and the file with the first key, to be moved elsewhere.

        Raises:
            OSError: they cannot be written.
        """
        first = secrets.token_bytes(KEY_BYTES)
        name = f"audit-{hashlib.sha256(first).hexdigest()[:8]}.first-key"
        write_bytes(self._folder / name, first.hex().encode() + b"\n", mode=PRIVATE, replace=False)
        write_bytes(self.path, _STATE.pack(0, first), mode=PRIVATE)

    def read(self) -> bytes | None:
        """Read the key's file; None where there is none.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    @contextmanager
    def of_line(self, number: int) -> Iterator[bytes | None]:
        """Yield the key of line `number` (None where the log has none), and replace it when the block succeeds.

        Raises:
            OSError: the key cannot be read or replaced.
            NotThisFormat: it is the key of a later line, or no key.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            yield None
            return
        try:
            raw = os.pread(descriptor, _STATE.size + 1, 0)
            if len(raw) != _STATE.size:
                raise NotThisFormat(f"{self.path} is not an audit key. Restore it from a backup.")
            key_number, key = _STATE.unpack(raw)
            if key_number > number:
                raise NotThisFormat(
                    f"{self.path} is for line {key_number}, and the audit log goes on with line {number}: lines were "
                    "cut off. Keep the log as evidence, move it away, and begin a new one."
                )
            for _ in range(number - key_number):  # lines after which the machine stopped before the key was replaced
                key = evolve(key)
            yield key
            os.pwrite(descriptor, _STATE.pack(number + 1, evolve(key)), 0)
        finally:
            os.close(descriptor)


def evolve(key: bytes) -> bytes:
    """Compute the key of the next line."""
    return hashlib.sha256(b"he-infer/audit/next\n" + key).digest()


def seal(key: bytes, digest: str) -> str:
    """Compute the MAC of a line from its hash."""
    return hmac.digest(key, digest.encode(), "sha256").hex()


def read_first_key(path: Path) -> bytes:
    """Read the key of a log's first line.

    Raises:
        NotThisFormat: the file holds no such key.
        OSError: it cannot be read.
    """
    try:
        key = bytes.fromhex(path.read_bytes().decode("utf-8-sig").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise NotThisFormat(f"{path} holds no first key of an audit log; expected 64 hex digits.")
    return key
