"""`he-infer restore` and `he-infer verify`: sealed objects opened, or only checked."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.client.archive_options import (
    ArchiveCa,
    ArchiveCredentials,
    ArchiveInsecureHttp,
    open_archive,
)
from he_infer.commands.json_option import JsonFile
from he_infer.commands.vault.batch import Jobs, Sources
from he_infer.commands.vault.key_options import (
    DEFAULT_KEY,
    KeyFile,
    PassphraseFile,
    RecipientKeyFile,
    open_keyring,
    open_recipient_key,
)

if TYPE_CHECKING:
    from cipher.container.unlock import OpeningKey

AnyName = Annotated[
    bool,
    typer.Option("--any-name", help="Objects may have other names than in the vault: they come from an archive."),
]


def restore(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Files and folders; none with --from-archive.")
    ] = None,
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the original files go.")],
    key: KeyFile = DEFAULT_KEY,
    passphrase_file: PassphraseFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are in the way.")] = False,
    any_name: AnyName = False,
    frames: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Only frames A to B-1, from 0, as NumPy files; the others are not opened."),
    ] = None,
    recipient_key: RecipientKeyFile = None,
    from_archive: Annotated[
        str | None, typer.Option(metavar="URL", help="Fetch the sealed objects from this DICOMweb archive.")
    ] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(metavar="UID", help="from-archive: UID of the original or sealed study; to be repeated."),
    ] = None,
    archive_credentials: ArchiveCredentials = None,
    archive_ca: ArchiveCa = None,
    archive_insecure_http: ArchiveInsecureHttp = False,
    jobs: Jobs = None,
    json_file: JsonFile = None,
) -> None:
    """Restore sealed objects of either form: the original files, byte for byte, with their names and times.

    A file appears only once all of it has been verified. What is restored is compared with the ledger: exits with 1 if
    an object of the vault is missing, doubled or renamed. A recipient has no ledger and is not told what is missing.
    Interrupt at any time and run the command again.

    Example: `he-infer restore vault/ --to restored/ --key hospital.key`
    """
    from cipher.files.tree import make_folder
    from cipher.vault.keyring import Keyring
    from cipher.vault.ledger import Ledger
    from cipher.vault.restoring import Restoring, plan
    from cipher.vault.selection import compare_with_ledger, select_sealed
    from cipher.vault.tally import Tally
    from he_infer.commands.vault.archive import fetch_sealed
    from he_infer.commands.vault.batch import conclude, work_on
    from he_infer.errors import UsageError

    leave_out = [to, *Keyring.files_at(key)]
    wanted = _parse_frames(frames)
    if (from_archive is None) == (not paths) or (from_archive is None) != (not study):
        raise UsageError("Nothing to restore was named: give paths, or --from-archive URL with --study UID.")
    if paths and (recipient_key is not None or not key.exists()):
        select_sealed(paths, leave_out=leave_out)  # a wrong path is the likelier mistake
    opening: OpeningKey
    vault_key = None
    if recipient_key is not None:
        opening, ledger = open_recipient_key(recipient_key, passphrase_file), Ledger()
    else:
        keyring = open_keyring(key, passphrase_file)
        opening = vault_key = keyring.vault_key
        ledger = keyring.ledger()
    with tempfile.TemporaryDirectory(prefix="he-infer-") as fetched:
        if from_archive is not None:
            archive = open_archive(from_archive, archive_credentials, archive_ca, archive_insecure_http)
            paths, any_name = fetch_sealed(archive, study or [], vault_key, Path(fetched)), True
        selection = select_sealed(paths or [], leave_out=leave_out, ledger=ledger)
        make_folder(to)
        places, unopened = plan(selection.objects, opening, to)
        work = Restoring(to, opening, overwrite=overwrite, versions=ledger.versions(), places=places, frames=wanted)
        objects = [found for found in selection.objects if found.path in places]
        tally = work_on("restore", work, objects, jobs) if objects else Tally("restore")
        tally.failures += unopened + selection.problems
        tally.not_sealed = selection.others
        tally.discrepancies += compare_with_ledger(ledger, selection, names=not any_name)
        tally.discrepancies += [
            f"missing: {outcome.path} was restored and is gone again"
            for _, outcome in tally.outcomes
            if not Path(outcome.path).is_symlink() and not Path(outcome.path).exists()
        ]
        conclude(tally, json_file)


def verify(
    paths: Sources,
    *,
    key: KeyFile = DEFAULT_KEY,
    passphrase_file: PassphraseFile = None,
    record: Annotated[
        bool,
        typer.Option(
            "--record", help="Make the ledger say what is there now: forget what is missing, take over what is new."
        ),
    ] = False,
    any_name: AnyName = False,
    jobs: Jobs = None,
    json_file: JsonFile = None,
) -> None:
    """Check sealed objects: every tag, the data bound to them, their versions, and that none is missing.

    Exits with 1 if any object is damaged, missing, doubled, renamed, replaced by an older one, or sealed under another
    key. Nothing is written, unless `--record` is given.

    Example: `he-infer verify vault/ --key hospital.key`
    """
    from cipher.vault.checking import Verifying
    from cipher.vault.keyring import Keyring
    from cipher.vault.ledger import Ledger
    from cipher.vault.selection import compare_with_ledger, record_as_found, select_sealed
    from cipher.vault.tally import Tally
    from he_infer.commands.vault.batch import conclude, work_on

    leave_out = Keyring.files_at(key)
    if not key.exists():
        select_sealed(paths, leave_out=leave_out)
    keyring = open_keyring(key, passphrase_file)
    lost = record and not keyring.ledger_path.exists()
    ledger = Ledger() if lost else keyring.ledger()
    selection = select_sealed(paths, leave_out=leave_out, ledger=ledger)
    work = Verifying(keyring.vault_key, ledger.versions())
    tally = work_on("verify", work, selection.objects, jobs) if selection.objects else Tally("verify")
    tally.failures += selection.problems
    tally.not_sealed = selection.others
    if record:
        with Ledger.update(keyring.ledger_path, keyring.vault_key, make=True) as ledger:
            for line in record_as_found(ledger, selection, [outcome for _, outcome in tally.outcomes]):
                typer.echo(line)
    tally.discrepancies += compare_with_ledger(ledger, selection, names=not any_name)
    conclude(tally, json_file)


def _parse_frames(text: str | None) -> tuple[int, int] | None:
    from he_infer.errors import UsageError

    if text is None:
        return None
    found = re.fullmatch("([0-9]{1,9}):([0-9]{1,9})", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise UsageError(
            f"--frames {text[:40]!r} is no range; give the first frame and the one after the last, as 10:20."
        )
    return int(found[1]), int(found[2])
