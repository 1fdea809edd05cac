"""`he-infer export-recipient`: the vault's certificate and RSA key as PKCS #12, for other software."""

from pathlib import Path
from typing import Annotated

import typer

from he_infer.commands.vault.key_options import DEFAULT_KEY, KeyFile, PassphraseFile

EXPORT_VARIABLE = "HE_INFER_EXPORT_PASSPHRASE"


def export_recipient(
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The PKCS #12 file to write.")],
    key: KeyFile = DEFAULT_KEY,
    passphrase_file: PassphraseFile = None,
    export_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help=f"File with the PKCS #12 file's passphrase; else {EXPORT_VARIABLE}, or asked."
        ),
    ] = None,
) -> None:
    """Write the key pair that reads encrypted attributes as PKCS #12, so that `openssl` and other software can use it.

    PKCS #12 lets a passphrase be guessed hundreds of times faster than the vault key's file does. Its passphrase must
    therefore be another than the vault's.

    Example: `he-infer export-recipient --key hospital.key --to recipient.p12`
    """
    from cipher.vault.keyring import Keyring
    from he_infer.commands.passphrase_option import get_passphrase
    from he_infer.errors import UsageError

    spoken: list[str] = []

    def ask(confirm: bool) -> str:
        spoken.append(get_passphrase(passphrase_file, confirm=confirm))
        return spoken[0]

    keyring = Keyring.open(key, ask)
    passphrase = get_passphrase(
        export_passphrase_file,
        confirm=True,
        variable=EXPORT_VARIABLE,
        option="--export-passphrase-file",
        name="passphrase of the PKCS #12 file",
    )
    if passphrase in spoken:
        raise UsageError("The PKCS #12 file's passphrase must be another than the vault key's: it is easier to guess.")
    recipient, _ = keyring.recipient()
    recipient.export(to, passphrase)
    typer.echo(f"Wrote {to} (PKCS #12). Remove it when it is no longer needed.")
