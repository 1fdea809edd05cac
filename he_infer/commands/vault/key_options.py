"""The vault key of the image commands, and what lies beside it: its ledger and its DICOM recipient."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

if TYPE_CHECKING:
    from cipher.container.version import ObjectVersion
    from cipher.dicom.recipient import Recipient
    from cipher.keys.vault_key import VaultKey

DEFAULT_KEY = Path("he-infer-vault.key")

KeyFile = Annotated[
    Path,
    typer.Option("--key", metavar="FILE", envvar="HE_INFER_VAULT_KEY", help="The vault's key, under a passphrase."),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="File with the key's passphrase (mode 0600); else HE_INFER_PASSPHRASE, or asked."
    ),
]


@dataclass(frozen=True, slots=True)
class Keyring:
    """An opened vault key, and where it lies."""

    path: Path
    vault_key: "VaultKey"
    passphrase: str = field(repr=False)
    made: bool = False
    """Whether this run made the key."""

    @classmethod
    def open(cls, path: Path, passphrase_file: Path | None) -> Self:
        """Open the key file.

        Raises:
            UsageError: there is none, or no passphrase.
            WrongPassphrase, Damaged, UnsupportedFormat, UnsupportedVersion, StorageProblem: as `VaultKey.load`.
        """
        from he_infer.commands.passphrase_option import get_passphrase
        from he_infer.errors import UsageError

        if not path.exists():
            raise UsageError(f"There is no vault key {path}. Give the one that the objects were sealed with by --key.")
        return cls.load(path, get_passphrase(passphrase_file, confirm=False))

    @classmethod
    def load(cls, path: Path, passphrase: str) -> Self:
        """Open the key file with a passphrase that is known.

        Raises:
            As `VaultKey.load`.
        """
        from cipher.keys.vault_key import VaultKey

        return cls(path, VaultKey.load(path, passphrase), passphrase)

    @classmethod
    def make(cls, path: Path, passphrase: str) -> Self:
        """Write a fresh key.

        Raises:
            UsageError: its folder does not exist.
            BadKey, StorageProblem: as `VaultKey.save`.
        """
        from cipher.keys.vault_key import VaultKey
        from he_infer.errors import UsageError

        if not path.resolve().parent.is_dir():
            raise UsageError(f"There is no folder {path.resolve().parent} for the vault key. Make it first.")
        vault_key = VaultKey.generate()
        vault_key.save(path, passphrase)
        typer.echo(f"Made a new vault key: {path}. Keep a copy elsewhere: without it and its passphrase nothing opens.")
        return cls(path, vault_key, passphrase, made=True)

    @property
    def ledger_path(self) -> Path:
        """Where the versions of all objects under this key are remembered."""
        return self.path.with_suffix(".ledger")

    @property
    def recipient_path(self) -> Path:
        """The key pair that reads the encrypted attributes of sealed DICOM objects (PKCS #12)."""
        return self.path.with_suffix(".p12")

    @staticmethod
    def files_at(path: Path) -> list[Path]:
        """The key file and all that lies beside it, none of which belongs into a vault."""
        ledger = path.with_suffix(".ledger")
        return [path, ledger, ledger.with_name(ledger.name + ".lock"), path.with_suffix(".p12")]

    def versions(self) -> "dict[str, ObjectVersion]":
        """Object identifier -> latest version, from the ledger; empty where there is no ledger yet.

        Raises:
            As `Ledger.load`.
        """
        from cipher.vault.ledger import Ledger

        ledger = Ledger.load(self.ledger_path, self.vault_key)
        return {name: version for name in ledger.names() if (version := ledger.expected(name)) is not None}

    def remember(self, versions: "Mapping[str, ObjectVersion]") -> None:
        """Write versions to the ledger, unless it has later ones.

        Raises:
            As `Ledger.update`.
        """
        from cipher.vault.ledger import Ledger

        if not versions:
            return
        with Ledger.update(self.ledger_path, self.vault_key) as ledger:
            for name, version in versions.items():
                known = ledger.expected(name)
                if known is None or known.number < version.number:
                    ledger.record(name, version)

    def recipient(self) -> "Recipient":
        """The vault's own recipient, made on first use.

        Raises:
            As `Recipient.load` and `Recipient.save`.
        """
        from cipher.dicom.recipient import Recipient

        if self.recipient_path.exists():
            return Recipient.load(self.recipient_path, self.passphrase)
        recipient = Recipient.generate()
        recipient.save(self.recipient_path, self.passphrase)
        typer.echo(f"Made the key pair that reads encrypted attributes: {self.recipient_path} (same passphrase).")
        return recipient
