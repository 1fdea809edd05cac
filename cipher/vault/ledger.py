"""The ledger of a vault: the latest version of every object in it, kept where the vault's keeper cannot reach.

An intact old object put back in place of a newer one opens without complaint; only somebody who remembers can tell.
The ledger remembers. It is itself a sealed object, whose version counts its changes. Keep it on the trusted side,
beside the vault key, not in the vault: whoever can put back both an old object and the old ledger is noticed by nothing
but a counter kept elsewhere (`Ledger.version`, given to `Ledger.load` as `expect`).
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cipher.container.api import open_bytes, seal_bytes
from cipher.container.describe import describe
from cipher.container.sealing import Options
from cipher.container.version import ObjectVersion
from cipher.errors import Damaged, StorageProblem
from cipher.files.atomic import PRIVATE, write_bytes
from cipher.files.lock import exclusive
from cipher.keys.vault_key import VaultKey

_LABELS = {"holds": "ledger 1"}


class Ledger:
    """Names of objects and the version of each that is the latest."""

    def __init__(self, entries: dict[str, ObjectVersion] | None = None, version: ObjectVersion | None = None) -> None:
        self._entries = dict(entries or {})
        self.version = version
        """Of the ledger itself as it was loaded or last saved; none if it never was."""

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], vault_key: VaultKey, *, expect: ObjectVersion | None = None
    ) -> "Ledger":
        """Read a ledger; an empty one if there is no such file and none is expected.

        Raises:
            StorageProblem: it cannot be read, or is expected and not there.
            Replayed: it is older than `expect`.
            WrongKey, Damaged, UnsupportedFormat, UnsupportedVersion: as opening any object.
        """
        if not Path(path).exists():
            if expect is not None:
                raise StorageProblem(
                    f"The ledger {os.fspath(path)} is gone; restore it, and do not trust the vault before."
                )
            return cls()
        try:
            sealed = Path(path).read_bytes()
        except OSError as error:
            raise StorageProblem(f"Cannot read the ledger {os.fspath(path)}: {error.strerror or error}.") from error
        content = open_bytes(sealed, vault_key, expect=expect)
        description = describe(sealed)
        if description.labels != _LABELS:
            raise Damaged(f"{os.fspath(path)} is a sealed object, but not a ledger.")
        entries = {name: ObjectVersion(*entry) for name, entry in json.loads(content).items()}
        return cls(entries, description.version)

    @classmethod
    @contextmanager
    def update(cls, path: str | os.PathLike[str], vault_key: VaultKey) -> "Iterator[Ledger]":
        """Load the ledger, let the block change it, save it; one such block at a time over all processes.

        Raises:
            As `load` and `save`.
        """
        lock = Path(path).with_name(Path(path).name + ".lock")
        try:
            handle = lock.open("ab")
        except OSError as error:
            raise StorageProblem(f"Cannot lock the ledger {os.fspath(path)}: {error.strerror or error}.") from error
        with handle, exclusive(handle):
            ledger = cls.load(path, vault_key)
            yield ledger
            ledger.save(path, vault_key)

    def save(self, path: str | os.PathLike[str], vault_key: VaultKey) -> None:
        """Write the ledger as the version that follows the loaded one, atomically, mode 0600.

        Raises:
            StorageProblem: it cannot be written.
        """
        entries = {name: [entry.object_id, entry.number] for name, entry in self._entries.items()}
        content = json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        sealed = seal_bytes(content, vault_key, options=Options(labels=_LABELS, replaces=self.version))
        write_bytes(path, sealed, mode=PRIVATE)
        self.version = describe(sealed).version

    def expected(self, name: str) -> ObjectVersion | None:
        """The latest version of the object of this name, for `expect`; none if it was never recorded."""
        return self._entries.get(name)

    def record(self, name: str, version: ObjectVersion) -> None:
        """Remember that this is now the latest version of the object of this name."""
        self._entries[name] = version

    def forget(self, name: str) -> None:
        """Remember nothing of an object that was removed on purpose."""
        self._entries.pop(name, None)

    def names(self) -> tuple[str, ...]:
        """All recorded names, sorted."""
        return tuple(sorted(self._entries))
