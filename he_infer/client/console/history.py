"""Past results, encrypted at rest under a key derived from the key file's seed.

The file is a list of records, each: length (u32, little-endian), nonce of 12 bytes, AES-256-GCM of a JSON object. The
associated data are the format's name and the record's index, so that records can be neither swapped nor moved. Removing
whole records from the end is not detected.
"""

import json
import os
import secrets
import struct
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cipher.files.lock import open_exclusive
from he_infer.client.spreadsheet import to_csv
from he_infer.errors import NotThisFormat
from he_infer.files import PRIVATE, sync

PURPOSE = "history"
_NAME = b"he-infer history 1"
_LENGTH = struct.Struct("<I")
_NONCE, _TAG, _LARGEST = 12, 16, 1 << 16
_LONGEST_TEXT = 1000
"""Most characters of a text in a record; names and headers of files, and a server's messages, may be of any length."""


@dataclass(frozen=True)
class Record:
    """One result in the history. It holds no pixels, features or scores."""

    time: int
    """Unix seconds."""
    name: str
    """Name of the file, as the user gave it."""
    study: str
    series: str
    image: str
    accession: str
    outcome: str
    """Name of the class, or `not classified`."""
    percent: float | None
    reason: str
    model: str
    receipt: str
    """SHA-256 of the signed receipt."""


class History:
    """Opens a history file; creates it with mode 0600 if it is missing.

    Raises:
        NotThisFormat: the file is no history, is damaged, or was written under another key.
        OSError: the file cannot be read or created.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._path, self._cipher = path, AESGCM(key)
        self._lock = threading.Lock()
        self._size = 0
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, PRIVATE))
        self._records = list(self._read())

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """Append a result, its texts cut to a bounded length, and sync the file. Another page may append to it too."""
        record = Record(**{name: _cut_text(value) for name, value in asdict(record).items()})
        with self._lock, open_exclusive(self._path) as file:
            if file.seek(0, os.SEEK_END) != self._size:
                self._records = list(self._read())
                file.seek(0, os.SEEK_END)
            plain = json.dumps(asdict(record), ensure_ascii=False).encode(errors="backslashreplace")
            nonce = secrets.token_bytes(_NONCE)
            sealed = nonce + self._cipher.encrypt(nonce, plain, _place(len(self._records)))
            file.write(_LENGTH.pack(len(sealed)) + sealed)
            file.flush()
            os.fsync(file.fileno())
            self._size = file.tell()
            self._records.append(record)

    def search(self, words: str = "") -> list[Record]:
        """The results that contain all words in any field, case-insensitive; newest first."""
        wanted = words.casefold().split()
        found = []
        for record in reversed(self._records):
            text = " ".join(str(value) for value in asdict(record).values()).casefold()
            if all(word in text for word in wanted):
                found.append(record)
        return found

    def to_json(self) -> str:
        """All results as a JSON list."""
        return json.dumps([asdict(record) for record in self._records], indent=2, ensure_ascii=False)

    def to_csv(self) -> str:
        """All results as CSV."""
        rows: list[list[object]] = [[field.name for field in fields(Record)]]
        rows += [list(asdict(record).values()) for record in self._records]
        return to_csv(rows)

    def erase(self) -> None:
        """Delete all results."""
        with self._lock, open_exclusive(self._path) as file:
            file.truncate(0)
            sync(self._path)
            self._size = 0
            self._records.clear()

    def _read(self) -> Iterator[Record]:
        data = self._path.read_bytes()
        self._size = len(data)
        start, place = 0, 0
        while start < len(data):
            length = _LENGTH.unpack_from(data, start)[0] if start + _LENGTH.size <= len(data) else 0
            sealed = data[start + _LENGTH.size : start + _LENGTH.size + length]
            start += _LENGTH.size + length
            if start > len(data) or not _NONCE + _TAG < length <= _LARGEST:
                if start >= len(data) and place:
                    # A crash cut off the last record while it was written; all earlier records are whole.
                    self._cut(data, start - _LENGTH.size - length)
                    return
                raise NotThisFormat(f"{self._path} is no history of the page, or it is damaged. Move it away.")
            try:
                plain = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _place(place))
                yield Record(**json.loads(plain))
            except (InvalidTag, ValueError, TypeError) as error:
                raise NotThisFormat(
                    f"{self._path} was written under another key, or changed since. Move it away to begin a new one."
                ) from error
            place += 1

    def _cut(self, data: bytes, end: int) -> None:
        self._path.write_bytes(data[:end])
        self._size = end


def _place(number: int) -> bytes:
    return _NAME + number.to_bytes(8, "little")


def _cut_text(value: Any) -> Any:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else value
