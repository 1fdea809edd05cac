"""`he-infer resolve`: the original identifiers behind the pseudonyms of sealed DICOM objects."""

import typer
from rich import box

from he_infer.commands.json_option import JsonFile
from he_infer.commands.vault.batch import Sources
from he_infer.commands.vault.key_options import (
    DEFAULT_KEY,
    KeyFile,
    PassphraseFile,
    RecipientKeyFile,
    open_keyring,
    open_recipient_key,
)
from he_infer.terminal import PlainTable, clean, make_console


def resolve(
    paths: Sources,
    *,
    key: KeyFile = DEFAULT_KEY,
    passphrase_file: PassphraseFile = None,
    recipient_key: RecipientKeyFile = None,
    json_file: JsonFile = None,
) -> None:
    """Show the original patient and study behind each sealed DICOM object's pseudonyms.

    Only the vault's key shows them, and the keys of recipients that an object was shared with.

    Example: `he-infer resolve vault/ --key hospital.key`
    """
    from cipher.container.opening import Opening
    from cipher.errors import CipherError
    from cipher.vault.forms import describe_path, sealed_container
    from cipher.vault.keyring import Keyring
    from cipher.vault.selection import select_sealed
    from he_infer.files import write_json

    selection = select_sealed(paths, leave_out=Keyring.files_at(key))
    opening = (
        open_keyring(key, passphrase_file).vault_key
        if recipient_key is None
        else open_recipient_key(recipient_key, passphrase_file)
    )
    names = ("project", "PatientID", "StudyInstanceUID", "SOPInstanceUID")
    table = PlainTable("object", "patient here", *names, box=box.SIMPLE)
    figures, failures = [], [f"{found.path}: {error}" for found, error in selection.problems]
    for found in selection.objects:
        try:
            said = describe_path(found.path).identifiers
            if said is None:
                continue
            with sealed_container(found.path) as (inner, bound):
                private = Opening(inner, opening, associated=bound).opened.private
        except CipherError as error:
            failures.append(f"{found.path}: {error}")
            continue
        values = [private.get(name, "") for name in names]
        table.add_row(found.path.name, said.patient_id, *values)
        here = {
            "path": str(found.path),
            "patient_id": said.patient_id,
            "study": said.study,
            "sop_instance": said.instance,
        }
        figures.append({**here, "original": dict(zip(names, values, strict=True))})
    make_console(width=None if make_console().is_terminal else 240).print(table)
    for line in failures:
        typer.echo(clean(f"failed: {line}"), err=True)
    if json_file is not None:
        write_json(json_file, {"objects": figures, "failures": failures})
    if failures:
        raise typer.Exit(1)
