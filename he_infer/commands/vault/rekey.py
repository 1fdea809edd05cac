"""`he-infer rekey`: another vault key for sealed objects; only their headers are rewritten."""

from pathlib import Path
from typing import Annotated

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.commands.vault.batch import Jobs, Sources
from he_infer.commands.vault.key_options import DEFAULT_KEY, KeyFile, PassphraseFile, open_keyring, say_made

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
    """Make a new vault key the only one that opens the objects, in place; their bodies are not touched.

    At every moment one of the two keys opens each object. Interrupt at any time and run the command again. Copies made
    before still open with the old key.

    Example: `he-infer rekey vault/ --key hospital.key --new-key hospital-2027.key`
    """
    from cipher.errors import KeyProblem
    from cipher.vault.checking import Rekeying
    from cipher.vault.keyring import Keyring
    from cipher.vault.ledger import Ledger
    from cipher.vault.selection import object_ids, select_sealed
    from he_infer.commands.passphrase_option import get_passphrase
    from he_infer.commands.vault.batch import conclude, work_on
    from he_infer.errors import UsageError

    if key.resolve() == new_key.resolve():
        raise UsageError("The new key's file must be another than the old key's.")
    selection = select_sealed(paths, leave_out=[*Keyring.files_at(key), *Keyring.files_at(new_key)])
    old = open_keyring(key, passphrase_file)
    old_ledger = old.ledger()

    def ask(confirm: bool) -> str:
        return get_passphrase(
            new_passphrase_file,
            confirm=confirm,
            variable=NEW_VARIABLE,
            option="--new-passphrase-file",
            name="new key's passphrase",
        )

    new = Keyring.open_or_make(new_key, ask)
    if new.vault_key == old.vault_key:
        raise KeyProblem(f"{new_key} holds the same key as {key}; give another one, or a name for a new one.")
    say_made(new)
    new.take_over_recipient(old)
    # Before any object changes hands, so that none is under a key whose ledger does not know it.
    with Ledger.update(new.ledger_path, new.vault_key) as ledger:
        ledger.take_over(old_ledger, object_ids(selection))
    tally = work_on("rekey", Rekeying(old.vault_key, new.vault_key), selection.objects, jobs)
    tally.failures += selection.problems
    tally.not_sealed = selection.others
    conclude(tally, json_file)
