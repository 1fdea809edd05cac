"""`he-infer watch`: classifies new images of an archive, and stores exactly one report for each."""

import re
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from he_infer.commands.client.archive_options import (
    ArchiveCa,
    ArchiveCredentials,
    ArchiveInsecureHttp,
    MostMegabytes,
    open_archive,
)
from he_infer.commands.client.connection_options import (
    DEFAULT_URL,
    CaFile,
    ClientCert,
    InsecureHttp,
    ModelFile,
    TokenFile,
    Url,
)
from he_infer.commands.client.unlock_option import get_unlock
from he_infer.commands.number_options import require_finite
from he_infer.commands.passphrase_option import PassphraseFile
from he_infer.terminal import clean

if TYPE_CHECKING:
    from he_infer.client.pacs.archive.dicomweb import Archive
    from he_infer.client.pacs.listener import ListenerSettings
    from he_infer.client.pacs.watch.journal import Journal
    from he_infer.client.pacs.watch.watcher import Status

SOME_NOT_REPORTED = 3
"""Exit code of `--once` if some images have no report."""
_STATUS_SECONDS = 60.0


def watch(
    *,
    bundle_file: ModelFile,
    key_file: Annotated[Path, typer.Option("--key", help="Secret key file, from 'he-infer keys new'.")],
    journal_folder: Annotated[
        Path,
        typer.Option(
            "--journal", metavar="FOLDER", help="Folder of the watcher's journal, which notes finished images."
        ),
    ],
    archive_url: Annotated[
        str | None,
        typer.Option("--archive", metavar="URL", help="Watch this DICOMweb archive, such as https://pacs/dicom-web."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="TITLE@HOST:PORT", help="Receive images by the DICOM protocol instead of watching an archive."
        ),
    ] = None,
    to_archive: Annotated[
        str | None, typer.Option(metavar="URL", help="Store reports in this archive; the watched one by default.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write reports into this folder instead of an archive.")
    ] = None,
    kinds: Annotated[str, typer.Option("--report", help="Kinds of reports: sr, pdf, or both.")] = "sr",
    refusals: Annotated[
        Literal["report", "none"], typer.Option(help="Whether an image that the model refuses also gets a report.")
    ] = "report",
    modality: Annotated[list[str] | None, typer.Option(help="Only images of this modality; may be repeated.")] = None,
    body_part: Annotated[list[str] | None, typer.Option(help="Only images of this body part; may be repeated.")] = None,
    description: Annotated[
        str, typer.Option(help="Only images whose study or series description matches this regular expression.")
    ] = "",
    since: Annotated[str, typer.Option(metavar="YYYYMMDD", help="Only studies from this date on.")] = "",
    quiet: Annotated[
        float,
        typer.Option(min=0, callback=require_finite, help="Seconds without growth after which a study is examined."),
    ] = 60.0,
    poll: Annotated[float, typer.Option(min=0.2, callback=require_finite, help="Seconds between two looks.")] = 10.0,
    attempts: Annotated[int, typer.Option(min=1, max=100, help="Tries before an image is given up.")] = 8,
    peer: Annotated[list[str] | None, typer.Option(help="listen: AE title that may send; may be repeated.")] = None,
    address: Annotated[
        list[str] | None, typer.Option(help="listen: IP address that may connect; 127.0.0.1 by default.")
    ] = None,
    most_objects: Annotated[int, typer.Option(min=1, help="listen: maximum number of waiting images.")] = 20_000,
    health_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Answer /healthz on this port of 127.0.0.1.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, process all due images, and end; for cron.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try given-up images again.")] = False,
    archive_credentials: ArchiveCredentials = None,
    archive_ca: ArchiveCa = None,
    archive_insecure_http: ArchiveInsecureHttp = False,
    most_megabytes: MostMegabytes = 512,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    insecure_http: InsecureHttp = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Watch an archive, or receive images, and store exactly one report for each chosen image.

    A study is examined when it has stopped growing. An image that comes late gets its own report; no report is
    replaced. You may kill the watcher at any time and start it again: the journal and the reports' derived UIDs prevent
    lost and duplicate reports. While archive or server do not answer, it waits. A failed image is tried again with
    growing delays, and listed.

    Exit code with `--once`: 0 if every chosen image has its reports; 3 if some have none, which are listed.

    Example: `he-infer watch --archive https://pacs.clinic/dicom-web --modality CR --bundle chest.client.hebundle --key
    hospital.key --journal watch/`
    """
    from he_infer.client.client import Client
    from he_infer.client.pacs.reports.kinds import parse_kinds
    from he_infer.client.pacs.results import ReportMaker, classify_with
    from he_infer.client.pacs.watch.choice import parse_choice
    from he_infer.client.pacs.watch.destinations import ArchiveDestination, FolderDestination
    from he_infer.client.pacs.watch.health import Health
    from he_infer.client.pacs.watch.journal import Journal
    from he_infer.client.pacs.watch.service import Service
    from he_infer.client.pacs.watch.sources import ArchiveSource
    from he_infer.client.pacs.watch.spool import Spool, SpoolSource
    from he_infer.client.pacs.watch.watcher import Settings, Watcher
    from he_infer.commands.client.token_option import get_token
    from he_infer.errors import UsageError

    if (archive_url is None) == (listen is None):
        raise UsageError("Say where images come from: give --archive URL or --listen TITLE@HOST:PORT, and not both.")
    if to is not None and to_archive is not None:
        raise UsageError("Give --to FOLDER or --to-archive URL, and not both.")
    if to is None and to_archive is None and archive_url is None:
        raise UsageError("Say where reports go: give --to-archive URL or --to FOLDER.")
    if since and not re.fullmatch(r"\d{8}", since):
        raise UsageError(f"{since!r} is no date; expected YYYYMMDD.")
    settings = Settings(
        choice=parse_choice(modality or [], body_part or [], description),
        kinds=parse_kinds(kinds),
        report_refusals=refusals == "report",
        quiet_seconds=quiet,
        most_attempts=attempts,
    )

    def archive_at(where: str) -> "Archive":
        return open_archive(where, archive_credentials, archive_ca, archive_insecure_http, most_megabytes)

    destination: FolderDestination | ArchiveDestination
    if to is not None:
        destination = FolderDestination(to)
    else:
        destination = ArchiveDestination(archive_at(to_archive or archive_url or ""))
    listening: ListenerSettings | None = None
    source: ArchiveSource | SpoolSource
    if archive_url is not None:
        source = ArchiveSource(archive_at(archive_url), since, sweep_seconds=0.0 if once else max(quiet, 30.0))
    else:
        spool = journal_folder / "spool"
        listening = _listener(listen or "", spool, peer or [], address or [], most_megabytes, most_objects)
        source = SpoolSource(Spool(spool))
    with (
        Client(
            url, model=bundle_file, key=key_file, passphrase=get_unlock(key_file, passphrase_file),
            token=get_token(token_file), ca_file=ca_file,
            client_cert=client_cert, insecure_http=insecure_http,
        ) as client,
        Journal(journal_folder, client.model.id) as journal,
    ):  # fmt: skip
        maker = ReportMaker.of(client.model, client.keys)
        if retry_failed:
            typer.echo(f"{journal.retry_failed(time.time())} images are tried again.")
        watcher = Watcher(
            source, destination, classify_with(client), maker.findings, maker.uids, journal, journal_folder, settings
        )
        if once:
            watcher.run_once()
            _list_troubles(journal)
            typer.echo(_line(watcher.status))
            if any(watcher.status.counts[state] for state in ("waiting", "failed")):
                raise typer.Exit(SOME_NOT_REPORTED)
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        said, said_at = "", 0.0

        def on_change() -> None:
            nonlocal said, said_at
            line = _line(watcher.status)
            if line != said or time.monotonic() - said_at > _STATUS_SECONDS:
                typer.echo(f"{time.strftime('%H:%M:%S')} {line}")
                said, said_at = line, time.monotonic()

        with Service(listening, Health(health_port, lambda: watcher.status) if health_port is not None else None) as up:
            for line in up.said:
                typer.echo(line)

            def keep_up() -> None:
                up.keep_up()
                on_change()

            watcher.run(stop, poll, keep_up)
        _list_troubles(journal)


def _listener(
    text: str, spool: Path, peers: list[str], addresses: list[str], most_megabytes: int, most_objects: int
) -> "ListenerSettings":
    from he_infer.client.pacs.listener import ListenerSettings
    from he_infer.errors import UsageError

    match = re.fullmatch(r"([A-Za-z0-9_. -]{1,16})@([^@]+):(\d{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise UsageError(
            f"{text!r} is no listening address; expected TITLE@HOST:PORT, such as HEINFER@127.0.0.1:11112."
        )
    if not peers:
        raise UsageError("Say which AE titles may send images with --peer TITLE.")
    return ListenerSettings(
        str(spool), match[2], int(match[3]), match[1], tuple(peers), tuple(addresses) or ("127.0.0.1",),
        most_megabytes * 2**20, most_objects,
    )  # fmt: skip


def _line(status: "Status") -> str:
    counts = ", ".join(f"{count} {state}" for state, count in status.counts.items() if count)
    line = f"{status.state}: {counts or 'no image yet'}"
    if status.growing:
        line += f"; {status.growing} studies still growing"
    return clean(line + (f". {status.problem}" if status.problem else ""))


def _list_troubles(journal: "Journal") -> None:
    for trouble in journal.troubles():
        told = f"{trouble.state}: image {trouble.image.sop}, {trouble.attempts} attempts: {trouble.error}"
        typer.echo(clean(told))
