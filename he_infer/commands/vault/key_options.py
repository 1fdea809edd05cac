"""Options of the image commands that name the vault key."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cipher.keys.recipient_key import RecipientKey
    from cipher.vault.keyring import Keyring

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


RecipientKeyFile = Annotated[
    Path | None,
    typer.Option("--recipient-key", metavar="FILE", help="A recipient's private key, instead of the vault's key."),
]


def open_recipient_key(path: Path, passphrase_file: Path | None) -> "RecipientKey":
    """Open a recipient's key file.

    Raises:
        UsageError: no passphrase.
        CipherError: as `RecipientKey.load`.
    """
    from cipher.keys.recipient_key import RecipientKey
    from he_infer.commands.passphrase_option import get_passphrase

    return RecipientKey.load(path, get_passphrase(passphrase_file, confirm=False))


def open_keyring(path: Path, passphrase_file: Path | None) -> "Keyring":
    """Open the key file.

    Raises:
        UsageError: no passphrase.
        CipherError: as `Keyring.open`.
    """
    from cipher.vault.keyring import Keyring
    from he_infer.commands.passphrase_option import get_passphrase

    return Keyring.open(path, lambda confirm: get_passphrase(passphrase_file, confirm=confirm))


def say_made(keyring: "Keyring") -> None:
    """Tell the user of a key that this run made."""
    if keyring.made:
        typer.echo(
            f"Made a new vault key: {keyring.path}, and its ledger: {keyring.ledger_path}. Keep copies of both "
            "elsewhere: without the key and its passphrase nothing opens."
        )
