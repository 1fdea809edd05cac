"""`he-infer store`: scrub, back up, restore and migrate what a server stores."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import require_finite
from he_infer.commands.server.state_options import (
    DEFAULT_DATA_DIR,
    BlobUrl,
    DatabaseUrl,
    DataDir,
    SigningKey,
    open_state,
    operated,
)
from he_infer.terminal import show_progress

if TYPE_CHECKING:
    from he_infer.server.storage.backup import Copied, State

BACKUP_KEY_FILE = "backup.key"
BackupKey = Annotated[
    Path | None,
    typer.Option(help="Key that authenticates backups; for a backup, by default backup.key in the data folder."),
]

app = typer.Typer(help="Check, back up, restore and migrate what a server stores.", no_args_is_help=True)


@app.command()
def scrub(
    *,
    repair_from: Annotated[
        Path | None, typer.Option(metavar="BACKUP", help="Restore missing and damaged blobs from this backup.")
    ] = None,
    orphan_hours: Annotated[
        float,
        typer.Option(
            min=0, callback=require_finite, help="Age in hours from which a blob without a row counts as an orphan."
        ),
    ] = 1.0,
    json_file: JsonFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
    blob_url: BlobUrl = None,
) -> None:
    """Read every stored blob through and compare it with its SHA-256; the server may run meanwhile.

    Exits 1 where something acknowledged is missing or damaged. Orphans are listed and harmless: a running server
    removes them within two hours.

    Example: `he-infer store scrub --data-dir /var/lib/he-infer --json scrub.json`
    """
    from datetime import timedelta

    from he_infer.errors import NotThisFormat
    from he_infer.files import write_json
    from he_infer.server.evidence.audit_log import AuditLog
    from he_infer.server.storage import backup as backups
    from he_infer.server.storage.blobs import Blobs
    from he_infer.server.storage.scrub import repair
    from he_infer.server.storage.scrub import scrub as scrub_store

    if repair_from is not None and not (repair_from / backups.BLOBS).is_dir():
        raise NotThisFormat(f"{repair_from} is no backup; expected a folder that 'he-infer store backup' wrote.")
    state = open_state(data_dir, database_url, blob_url, None)
    done = 0

    def report(size: int) -> None:
        nonlocal done
        done += size
        bar(done, total)

    total = sum(record.object_bytes + record.key_bytes for record in state.metadata.clients.list_all())
    with show_progress("Scrubbing", unit="bytes") as bar:
        findings = scrub_store(state.metadata, state.blobs, orphan_age=timedelta(hours=orphan_hours), progress=report)
    mended = []
    if repair_from is not None:
        mended = repair(findings, state.blobs, Blobs(repair_from / backups.BLOBS))
        AuditLog(state.audit).by_operator("store.repair", blobs=len(mended))
    state.metadata.close()
    if json_file is not None:
        write_json(
            json_file,
            {
                "blobs": findings.blobs,
                "bytes": findings.bytes,
                "repaired": [asdict(record) for record in mended],
                "missing": [asdict(record) for record in findings.missing],
                "damaged": [asdict(record) for record in findings.damaged],
                "orphans": findings.orphans,
            },
        )
    for kind, records in (("repaired", mended), ("missing", findings.missing), ("damaged", findings.damaged)):
        for record in records:
            typer.echo(f"{kind}: {record.what} ({record.path}, {record.size:,} bytes)")
    for path in findings.orphans:
        typer.echo(f"orphan: {path}")
    typer.echo(
        f"{findings.blobs} blobs, {findings.bytes:,} bytes: {len(findings.missing)} missing, "
        f"{len(findings.damaged)} damaged, {len(findings.orphans)} orphans."
    )
    if not findings.whole:
        raise typer.Exit(1)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="New folder to write the backup to.")],
    *,
    backup_key: BackupKey = None,
    json_file: JsonFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
    blob_url: BlobUrl = None,
    signing_key: SigningKey = None,
) -> None:
    """Copy everything that a server stores into a folder; the server may run and be written to meanwhile.

    The backup holds everything that was acknowledged before it began, compared with its SHA-256. Exits 1 where
    something was missing or damaged already; the rest is copied all the same. The folder holds the key of the
    receipts: guard it.

    The backup is authenticated with a key that is made at the first backup. Keep a copy of that key away from the
    backups: a restore needs it.

    Example: `he-infer store backup /mnt/backup/2026-11-25 --data-dir /var/lib/he-infer`
    """
    from he_infer.server.storage.backup import backup as make_backup
    from he_infer.server.storage.backup import load_backup_key

    state = open_state(data_dir, database_url, blob_url, signing_key)
    key = load_backup_key(backup_key or data_dir / BACKUP_KEY_FILE, create=True)
    with show_progress("Backing up", unit="bytes") as bar:
        copied = make_backup(state, folder, key, bar)
    _conclude("store.backup", state, copied, json_file, f"written to {folder}")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="Folder that `he-infer store backup` wrote.")],
    *,
    backup_key: BackupKey = None,
    without_key: Annotated[
        bool,
        typer.Option("--without-key", help="Restore without checking the backup's MAC; all its tokens are revoked."),
    ] = False,
    json_file: JsonFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
    blob_url: BlobUrl = None,
    signing_key: SigningKey = None,
) -> None:
    """Restore a backup into an empty data folder, database and object store, before the server runs.

    The stores may be of another kind than those that were backed up: this is also the way from SQLite and a folder to
    PostgreSQL and S3. An interrupted restore can be run again.

    A backup that was changed after it was made is refused. --without-key restores one without this check: all
    tokens in it are revoked, and the keys of receipts and of the audit log are made anew.

    Example: `he-infer store restore /mnt/backup/2026-11-25 --backup-key backup.key --data-dir /var/lib/he-infer-new`
    """
    from he_infer.errors import UsageError
    from he_infer.server.storage.backup import load_backup_key
    from he_infer.server.storage.backup import restore as bring_back

    if (backup_key is None) != without_key:
        raise UsageError("Give the key that the backup was made with (--backup-key), or say --without-key.")
    key = None if backup_key is None else load_backup_key(backup_key, create=False)
    state = open_state(data_dir, database_url, blob_url, signing_key)
    with show_progress("Restoring", unit="bytes") as bar:
        copied = bring_back(folder, state, key, bar)
    _conclude("store.restore", state, copied, json_file, f"restored from {folder}")


@app.command()
def migrate(*, data_dir: DataDir = DEFAULT_DATA_DIR, database_url: DatabaseUrl = None) -> None:
    """Bring the database to the schema of this release. The server does so too when it starts.

    The migration is one transaction: it completes, or nothing is changed. The only way back is a backup.

    Example: `he-infer store migrate --database-url postgresql://he_infer@db.example/he_infer`
    """
    with operated(data_dir, database_url) as (metadata, _):
        typer.echo(f"The database has schema {metadata.revision}.")


def _conclude(action: str, state: "State", copied: "Copied", json_file: Path | None, what: str) -> None:
    """Close the state, add an audit line, print the counts; exit with 1 where something was lost before."""
    from he_infer.files import write_json
    from he_infer.server.evidence.audit_log import AuditLog

    state.metadata.close()
    AuditLog(state.audit).by_operator(action, blobs=copied.blobs, bytes=copied.bytes)
    if json_file is not None:
        write_json(
            json_file,
            {
                "rows": copied.rows,
                "blobs": copied.blobs,
                "bytes": copied.bytes,
                "seconds": copied.seconds,
                "lost": [asdict(record) for record in copied.lost],
            },
        )
    for record in copied.lost:
        typer.echo(f"lost before: {record.what} ({record.path}, {record.size:,} bytes)")
    typer.echo(f"{copied.blobs} blobs, {copied.bytes:,} bytes {what} in {copied.seconds:.1f} s.")
    if copied.lost:
        raise typer.Exit(1)
