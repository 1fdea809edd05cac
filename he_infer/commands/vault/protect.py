"""`he-infer protect`: files, folders and DICOM trees into a vault of sealed objects."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.commands.vault.batch import Jobs, Sources
from he_infer.commands.vault.key_options import DEFAULT_KEY, KeyFile, Keyring, PassphraseFile


def protect(
    paths: Sources,
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The vault: where the sealed objects go.")],
    key: KeyFile = DEFAULT_KEY,
    passphrase_file: PassphraseFile = None,
    form: Annotated[
        Literal["container", "dicom"],
        typer.Option(help="container: any file. dicom: a DICOM object that an archive (PACS) stores."),
    ] = "container",
    names: Annotated[
        Literal["hidden", "kept"],
        typer.Option(help="hidden: objects are named by a keyed pseudonym. kept: by the file's own path."),
    ] = "hidden",
    recipient: Annotated[
        list[Path] | None,
        typer.Option(metavar="CERT", help="dicom: further certificates (PEM, DER) that may read the attributes."),
    ] = None,
    unlinkable: Annotated[
        bool, typer.Option("--unlinkable", help="dicom: do not let a patient's or a study's objects share identifiers.")
    ] = False,
    any_file: Annotated[
        bool, typer.Option("--any-file", help="Seal files that are called DICOM but cannot be read as such, too.")
    ] = False,
    jobs: Jobs = None,
    json_file: JsonFile = None,
) -> None:
    """Seal files, folders and DICOM trees; what is in the vault already and has not changed is left alone.

    The vault's key is made on first use, under a passphrase. Interrupt at any time and run the command again.

    Example: `he-infer protect scans/ --to vault/ --key hospital.key`
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from cipher.dicom.recipient import load_certificate
    from cipher.vault.work import Protecting, find_files, make_folder
    from he_infer.commands.vault.batch import conclude, work_on

    further = [load_certificate(path) for path in recipient or ()]
    keyring_files = Keyring.files_at(key)
    files = find_files(paths, leave_out=[to, *keyring_files])
    keyring = _open_or_make(key, passphrase_file, to)
    certificates = [keyring.recipient().certificate, *further] if form == "dicom" else []
    make_folder(to)
    work = Protecting(
        to,
        keyring.vault_key,
        form,
        names,
        tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates),
        linkable=not unlinkable,
        any_file=any_file,
        versions=keyring.versions(),
    )
    tally = work_on("protect", work, files, jobs)
    keyring.remember({o.version.object_id: o.version for _, o in tally.outcomes if o.version})
    conclude(tally, json_file)


def _open_or_make(key: Path, passphrase_file: Path | None, vault: Path) -> Keyring:
    from cipher.vault.work import holds_sealed
    from he_infer.commands.passphrase_option import get_passphrase
    from he_infer.errors import UsageError

    if key.exists():
        return Keyring.open(key, passphrase_file)
    if vault.is_dir() and any(holds_sealed(path) for path in vault.rglob("*") if path.is_file()):
        raise UsageError(
            f"{vault} holds sealed objects already, and there is no vault key {key}. Give their key by --key; a new "
            "key would not open them."
        )
    return Keyring.make(key, get_passphrase(passphrase_file, confirm=True))
