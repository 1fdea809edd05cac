"""`he-infer rekey`: another vault key for sealed objects; only their headers are rewritten."""

from pathlib import Path
from typing import Annotated

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.commands.vault.batch import Jobs, Sources
from he_infer.commands.vault.key_options import DEFAULT_KEY, KeyFile, Keyring, PassphraseFile

NEW_VARIABLE = "HE_INFER_NEW_PASSPHRASE"


def rekey(
    paths: Sources,
    *,
    new_key: Annotated[Path, typer.Option(metavar="FILE", help="The new vault key; made if there is none.")],
    key: KeyFile = DEFAULT_KEY,
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"File with the new key's passphrase; else {NEW_VARIABLE}, or asked."),
    ] = None,
    jobs: Jobs = None,
    json_file: JsonFile = None,
) -> None:
    """Make a new vault key the only one that opens the objects, in place: 128 bytes an object, whatever its size.

    At every moment one of the two keys opens each object. Interrupt at any time and run the command again. Copies made
    before still open with the old key.

    Example: `he-infer rekey vault/ --key hospital.key --new-key hospital-2027.key`
    """
    from cipher.vault.work import Rekeying
    from he_infer.commands.passphrase_option import get_passphrase
    from he_infer.commands.vault.batch import conclude, sealed_among, work_on
    from he_infer.errors import UsageError

    if key.resolve() == new_key.resolve():
        raise UsageError("The new key's file must be another than the old key's.")
    objects, others = sealed_among(paths, [*Keyring.files_at(key), *Keyring.files_at(new_key)])
    old = Keyring.open(key, passphrase_file)
    passphrase = get_passphrase(
        new_passphrase_file,
        confirm=not new_key.exists(),
        variable=NEW_VARIABLE,
        option="--new-passphrase-file",
        prompt="New key's passphrase",
    )
    new = Keyring.load(new_key, passphrase) if new_key.exists() else Keyring.make(new_key, passphrase)
    new.remember(old.versions())
    tally = work_on("rekey", Rekeying(old.vault_key, new.vault_key), objects, jobs)
    tally.passed_over = others
    conclude(tally, json_file)
