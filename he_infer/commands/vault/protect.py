"""`he-infer protect`: files, folders and DICOM trees into a vault of sealed objects."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from he_infer.commands.client.archive_options import (
    ArchiveCa,
    ArchiveCredentials,
    ArchiveInsecureHttp,
    open_archive,
)
from he_infer.commands.json_option import JsonFile
from he_infer.commands.vault.batch import Jobs, Sources
from he_infer.commands.vault.key_options import DEFAULT_KEY, KeyFile, PassphraseFile, say_made

if TYPE_CHECKING:
    from cipher.dicom.region import Region
    from cipher.vault.forms import Form
    from cipher.vault.keyring import Keyring


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
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,W,H", help="Seal this rectangle of DICOM images and leave the rest viewable; may be repeated."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="As --region, for pixels that are not black in a picture (or NumPy file) of the same size."),
    ] = None,
    recipient: Annotated[
        list[Path] | None,
        typer.Option(metavar="CERT", help="dicom: further certificates (PEM, DER) that may read the attributes."),
    ] = None,
    share_with: Annotated[
        list[Path] | None,
        typer.Option("--share-with", metavar="PUB", help="Public keys (PEM) that open the objects too."),
    ] = None,
    recovery: Annotated[
        list[Path] | None,
        typer.Option(
            "--recovery", metavar="PUB", help="Vault policy from now on: a public key that opens every object."
        ),
    ] = None,
    unlinkable: Annotated[
        bool, typer.Option("--unlinkable", help="dicom: do not let a patient's or a study's objects share identifiers.")
    ] = False,
    project: Annotated[
        str,
        typer.Option(help="dicom: pseudonyms are stable within a project, and unlinkable with those of another."),
    ] = "",
    any_file: Annotated[
        bool, typer.Option("--any-file", help="Seal files that are called DICOM but cannot be read as such, too.")
    ] = False,
    to_archive: Annotated[
        str | None, typer.Option(metavar="URL", help="dicom: store the sealed objects in this DICOMweb archive, too.")
    ] = None,
    archive_credentials: ArchiveCredentials = None,
    archive_ca: ArchiveCa = None,
    archive_insecure_http: ArchiveInsecureHttp = False,
    jobs: Jobs = None,
    json_file: JsonFile = None,
) -> None:
    """Seal files, folders and DICOM trees; unchanged files that the vault already holds are left alone.

    Links are sealed as links, empty folders as such; pipes and devices are skipped and listed. The vault's key is
    made on first use, under a passphrase. Interrupt at any time and run the command again.

    With --region or --mask, DICOM images stay viewable: only these pixels are sealed, and blanked in what is seen.

    Example: `he-infer protect scans/ --to vault/ --key hospital.key`
    """
    from cipher.files.folder_syncs import FolderSyncs
    from cipher.files.tree import make_folder
    from cipher.vault.find import survey
    from cipher.vault.keyring import Keyring
    from cipher.vault.ledger import Ledger
    from cipher.vault.protecting import Protecting, assign_stored_paths
    from cipher.vault.selection import make_entry
    from cipher.vault.tally import Tally
    from he_infer.commands.passphrase_option import get_passphrase
    from he_infer.commands.vault.archive import store_sealed
    from he_infer.commands.vault.batch import conclude, work_on
    from he_infer.errors import UsageError

    public = [(raw, False) for raw in _public_keys(share_with or [])]
    policy = [raw.hex() for raw in _public_keys(recovery or [])]
    chosen = _region(region or [], mask)
    if chosen is not None and form == "dicom":
        raise UsageError("--form dicom seals whole images: give either --form dicom, or --region and --mask.")
    kind: Form = form if chosen is None else "region"
    if to_archive is not None and kind == "container":
        raise UsageError(
            "An archive stores DICOM objects alone: give --form dicom, or a --region, together with --to-archive."
        )
    archive = open_archive(to_archive, archive_credentials, archive_ca, archive_insecure_http) if to_archive else None
    further = _certificates(recipient or [])
    seen = survey(paths, leave_out=[to, *Keyring.files_at(key)])
    keyring = Keyring.open_or_make(key, lambda confirm: get_passphrase(passphrase_file, confirm=confirm), vault=to)
    say_made(keyring)
    if policy:
        with Ledger.update(keyring.ledger_path, keyring.vault_key) as ledger:
            ledger.recovery += [key for key in policy if key not in ledger.recovery]
    ledger = keyring.ledger()
    kept = [bytes.fromhex(key) for key in ledger.recovery]
    shared = [(raw, True) for raw in kept] + [pair for pair in public if pair[0] not in kept]
    certificates = further if kind != "dicom" else [*_own_certificate(keyring), *further]
    make_folder(to)
    home = to.resolve()
    files = assign_stored_paths(seen.found, ledger, ledger.vault_at(str(home)))
    syncs = FolderSyncs()
    work = Protecting(
        to,
        keyring.vault_key,
        kind,
        names,
        tuple(certificates),
        shared=tuple(shared),
        linkable=not unlinkable,
        project=project,
        region=chosen,
        any_file=any_file,
        versions=ledger.versions(),
        syncs=syncs,
    )
    tally = work_on("protect", work, files, jobs, syncs) if files else Tally("protect")
    tally.passed_over += seen.passed_over
    tally.failures += seen.problems
    sealed = [outcome for _, outcome in tally.outcomes if outcome.version]
    if sealed:
        with Ledger.update(keyring.ledger_path, keyring.vault_key) as ledger:
            vault = ledger.vault_at(str(home), make=True) or ""
            for outcome in sealed:
                if outcome.version:
                    ledger.record(outcome.version.object_id, make_entry(outcome, vault, home))
    if archive is not None:
        stored = store_sealed(archive, [Path(outcome.path) for _, outcome in tally.outcomes])
        typer.echo(f"{stored} sealed objects are in {archive.url}.")
    conclude(tally, json_file)


def _region(boxes: list[str], mask: Path | None) -> "Region | None":
    """The pixels to seal; none if neither a box nor a mask was given."""
    if not boxes and mask is None:
        return None
    from cipher.dicom.region import Box, Region, load_mask

    return Region(tuple(Box.parse(box) for box in boxes), None if mask is None else load_mask(mask))


def _public_keys(paths: list[Path]) -> list[bytes]:
    """X25519 public keys from files, 32 bytes each; a key that is named twice counts once."""
    if not paths:
        return []
    from cipher.keys.recipient_key import load_public_key

    return list(dict.fromkeys(load_public_key(path).public_bytes_raw() for path in paths))


def _certificates(paths: list[Path]) -> list[bytes]:
    """Certificates from files, DER."""
    if not paths:
        return []
    from cryptography.hazmat.primitives.serialization import Encoding

    from cipher.dicom.recipient import load_certificate

    return [load_certificate(path).public_bytes(Encoding.DER) for path in paths]


def _own_certificate(keyring: "Keyring") -> list[bytes]:
    from cryptography.hazmat.primitives.serialization import Encoding

    own, made = keyring.recipient()
    if made:
        typer.echo(
            f"Made the key pair that reads encrypted attributes: {keyring.recipient_path} (sealed under the vault key; "
            "'he-infer export-recipient' writes it as PKCS #12)."
        )
    return [own.certificate.public_bytes(Encoding.DER)]
