"""The ledger of a vault key: the latest version of every object sealed under it, and where the object lies.

An intact old object put back in place of a newer one opens without an error, and an object that was removed leaves no
trace. The ledger is the record that shows both. It is itself a sealed object, whose version
counts its changes. Keep it on the trusted side, beside the vault key, not in the vault: whoever can put back both an
old object and the old ledger is noticed by nothing but a counter kept elsewhere (`Ledger.version`, given to
`Ledger.load` as `expect`).

Its content is JSON: `objects`, {object id: [version, vault id, path, stored path, origin]}; `recovery`, public keys in
hex; `vaults`, {id: folder}.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cipher.container.api import open_bytes, seal_bytes
from cipher.container.describe import describe
from cipher.container.sealing import Options
from cipher.container.version import ObjectVersion
from cipher.errors import Damaged, StorageProblem
from cipher.files.atomic import PRIVATE, write_bytes
from cipher.files.lock import exclusive
from cipher.keys.vault_key import VaultKey

_LABELS = {"holds": "ledger 2"}


@dataclass(frozen=True, slots=True)
class Entry:
    """Record of one object."""

    number: int
    """The latest version."""
    vault: str = ""
    """Identifier of the vault folder that it was sealed into; empty where only the version is remembered."""
    path: str = ""
    """Path of the object below that folder, with slashes (`cipher.vault.names.to_stored`)."""
    stored: str = ""
    """Path that it is restored to, below the target folder."""
    origin: str = ""
    """Absolute path of the file that it was sealed from."""


class Ledger:
    """Objects by their identifier, and the vault folders that they lie in."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.vaults: dict[str, str] = {}
        """Vault identifier -> absolute path of its folder when it was last sealed into."""
        self.recovery: list[str] = []
        """The vault's policy: X25519 public keys, in hex, that every object is shared with for recovery."""
        self.version: ObjectVersion | None = None
        """Version of the ledger itself as it was loaded or last saved; none if it never was."""

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], vault_key: VaultKey, *, expect: ObjectVersion | None = None
    ) -> "Ledger":
        """Read a ledger.

        Raises:
            StorageProblem: it is not there or cannot be read.
            Replayed: it is older than `expect`.
            WrongKey, Damaged, UnsupportedFormat, UnsupportedVersion: as opening any object.
        """
        try:
            sealed = Path(path).read_bytes()
        except FileNotFoundError:
            raise StorageProblem(
                f"The ledger {os.fspath(path)} is gone: without it nobody can tell whether objects are missing or were "
                "replaced by older ones. Restore it from a backup, or make a new one from what is there with: "
                "he-infer verify VAULT --record"
            ) from None
        except OSError as error:
            raise StorageProblem(f"Cannot read the ledger {os.fspath(path)}: {error.strerror or error}.") from error
        content = open_bytes(sealed, vault_key, expect=expect)
        description = describe(sealed)
        ledger = cls()
        try:
            found = json.loads(content) if description.labels == _LABELS else {}
            ledger.entries = {name: Entry(*entry) for name, entry in found["objects"].items()}
            ledger.vaults = dict(found["vaults"])
            ledger.recovery = list(found["recovery"])
        except (ValueError, TypeError, KeyError, AttributeError):
            raise Damaged(f"{os.fspath(path)} is a sealed object, but not a ledger of this release.") from None
        ledger.version = description.version
        return ledger

    @classmethod
    @contextmanager
    def update(cls, path: str | os.PathLike[str], vault_key: VaultKey, *, make: bool = False) -> "Iterator[Ledger]":
        """Load the ledger, let the block change it, save it; one such block at a time over all processes.

        Args:
            path: path of the ledger.
            vault_key: key that it is sealed under.
            make: whether to begin a new ledger where there is none.

        Raises:
            As `load` and `save`.
        """
        with locked(path):
            ledger = cls() if make and not Path(path).exists() else cls.load(path, vault_key)
            yield ledger
            ledger.save(path, vault_key)

    def save(self, path: str | os.PathLike[str], vault_key: VaultKey) -> None:
        """Write the ledger as the version that follows the loaded one, atomically, mode 0600.

        Raises:
            StorageProblem: it cannot be written.
        """
        objects = {
            name: [entry.number, entry.vault, entry.path, entry.stored, entry.origin]
            for name, entry in self.entries.items()
        }
        content = {"objects": objects, "recovery": self.recovery, "vaults": self.vaults}
        data = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        sealed = seal_bytes(data, vault_key, options=Options(labels=_LABELS, replaces=self.version))
        write_bytes(path, sealed, mode=PRIVATE)
        self.version = describe(sealed).version

    def expected(self, object_id: str) -> ObjectVersion | None:
        """The latest version of an object, for `expect`; none if it was never recorded."""
        entry = self.entries.get(object_id)
        return None if entry is None else ObjectVersion(object_id, entry.number)

    def versions(self) -> dict[str, ObjectVersion]:
        """Object identifier -> latest version."""
        return {name: ObjectVersion(name, entry.number) for name, entry in self.entries.items()}

    def vault_at(self, folder: str, *, make: bool = False) -> str | None:
        """The identifier of the vault in a folder (absolute path); a new one if told to make it, else none."""
        for vault, place in self.vaults.items():
            if place == folder:
                return vault
        if not make:
            return None
        vault = secrets.token_hex(8)
        self.vaults[vault] = folder
        return vault

    def record(self, object_id: str, entry: Entry) -> None:
        """Remember an object's latest version and place. What lay in that place before is forgotten.

        A version that is older than the recorded one changes nothing but the place.
        """
        known = self.entries.get(object_id)
        if known is not None and known.number > entry.number:
            entry = replace(entry, number=known.number)
        if entry.vault:
            for other, there in list(self.entries.items()):
                if other != object_id and (there.vault, there.path) == (entry.vault, entry.path):
                    del self.entries[other]
        self.entries[object_id] = entry

    def take_over(self, other: "Ledger", object_ids: set[str]) -> None:
        """Copy another ledger's records of some objects, which are about to be under this key, and its policy."""
        self.recovery += [key for key in other.recovery if key not in self.recovery]
        for object_id in object_ids & set(other.entries):
            entry = other.entries[object_id]
            if entry.vault:
                self.vaults.setdefault(entry.vault, other.vaults.get(entry.vault, ""))
            self.record(object_id, entry)

    def forget(self, object_id: str) -> None:
        """Delete the record of an object that was removed on purpose."""
        self.entries.pop(object_id, None)


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock of the ledger at `path`, over all processes; wait for its holder.

    Raises:
        StorageProblem: the lock's file cannot be made.
    """
    lock = Path(path).with_name(Path(path).name + ".lock")
    try:
        handle = os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT, PRIVATE), "ab")
    except OSError as error:
        raise StorageProblem(f"Cannot lock the ledger {os.fspath(path)}: {error.strerror or error}.") from error
    with handle, exclusive(handle):
        yield
