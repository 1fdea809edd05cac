"""An opened vault key, and the files beside it: the ledger, its lock and the recipient's key.

Their names are the key's name with an ending appended, so that `hospital.2025` and `hospital.2026` share none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cipher.errors import AlreadyExists, CipherError, StorageProblem, WrongKey
from cipher.keys.vault_key import VaultKey
from cipher.vault.forms import holds_sealed
from cipher.vault.ledger import Ledger, locked

if TYPE_CHECKING:
    from cipher.dicom.recipient import Recipient

AskPassphrase = Callable[[bool], str]
"""Gives the passphrase; called with whether it is about to protect something new."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """An opened vault key, and the path of its file."""

    path: Path
    vault_key: VaultKey
    made: bool = False
    """Whether this run made the key."""

    @classmethod
    def open(cls, path: Path, ask: AskPassphrase) -> Self:
        """Open the key file.

        Raises:
            StorageProblem: there is none, or it cannot be read.
            WrongPassphrase, Damaged, UnsupportedFormat, UnsupportedVersion: as `VaultKey.load`.
        """
        if not path.exists():
            raise StorageProblem(
                f"There is no vault key {path}. Give the one that the objects were sealed with by --key."
            )
        return cls(path, VaultKey.load(path, ask(False)))

    @classmethod
    def open_or_make(cls, path: Path, ask: AskPassphrase, *, vault: Path | None = None) -> Self:
        """Open the key file, or write a fresh key with an empty ledger where there is none.

        Where another process makes the key at the same time, its key is opened, and no key is lost.

        Args:
            path: path of the key file.
            ask: function that gives the passphrase.
            vault: the folder that is to be sealed into; a fresh key is refused where it holds objects already.

        Raises:
            StorageProblem: the folder does not exist, or cannot be written.
            WrongKey: the vault holds sealed objects already.
            BadKey, WrongPassphrase, Damaged, UnsupportedFormat, UnsupportedVersion: as `VaultKey.load` and `save`.
        """
        if path.exists():
            return cls.open(path, ask)
        if not path.resolve().parent.is_dir():
            raise StorageProblem(f"There is no folder {path.resolve().parent} for the vault key. Make it first.")
        if vault is not None and vault.is_dir() and _holds_any(vault):
            raise WrongKey(
                f"{vault} holds sealed objects already, and there is no vault key {path}. Give their key by --key; a "
                "new key would not open them."
            )
        passphrase = ask(True)
        made = cls(path, VaultKey.generate(), made=True)
        with locked(made.ledger_path):
            if path.exists():
                return cls(path, VaultKey.load(path, passphrase))
            if made.ledger_path.exists():
                raise StorageProblem(
                    f"{made.ledger_path} is there, and its vault key {path} is not: put the key back, or move the "
                    "ledger away to begin with a new key."
                )
            # The ledger first: a key without a ledger then always means that the ledger was lost.
            Ledger().save(made.ledger_path, made.vault_key)
            try:
                made.vault_key.save(path, passphrase)
            except CipherError:
                made.ledger_path.unlink(missing_ok=True)
                raise
        return made

    @property
    def ledger_path(self) -> Path:
        """Path of the ledger: versions and places of all objects under this key."""
        return _beside(self.path, ".ledger")

    @property
    def recipient_path(self) -> Path:
        """Path of the key pair that reads the encrypted attributes of sealed DICOM objects."""
        return _beside(self.path, ".recipient")

    @staticmethod
    def files_at(path: Path) -> list[Path]:
        """The key file and all that lies beside it, none of which belongs into a vault."""
        return [path, *(_beside(path, ending) for ending in (".ledger", ".ledger.lock", ".recipient"))]

    def ledger(self) -> Ledger:
        """The ledger as it is now.

        Raises:
            As `Ledger.load`.
        """
        return Ledger.load(self.ledger_path, self.vault_key)

    def recipient(self) -> "tuple[Recipient, bool]":
        """The vault's own recipient, made on first use, and whether this call made it.

        Raises:
            As `Recipient.load` and `Recipient.save`.
        """
        from cipher.dicom.recipient import Recipient

        if self.recipient_path.exists():
            return Recipient.load(self.recipient_path, self.vault_key), False
        recipient = Recipient.generate()
        try:
            recipient.save(self.recipient_path, self.vault_key)
        except AlreadyExists:
            return Recipient.load(self.recipient_path, self.vault_key), False
        return recipient, True

    def take_over_recipient(self, old: "Keyring") -> None:
        """Seal the old key's recipient under this key too, unless this key has one.

        Raises:
            As `Recipient.load` and `Recipient.save`.
        """
        if old.recipient_path.exists() and not self.recipient_path.exists():
            old.recipient()[0].save(self.recipient_path, self.vault_key)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _holds_any(vault: Path) -> bool:
    return any(holds_sealed(path) for path in vault.rglob("*") if path.is_file())
