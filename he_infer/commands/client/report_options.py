"""Options for the kinds of reports and their destination."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.client.archive_options import open_archive

if TYPE_CHECKING:
    from he_infer.client.pacs.watch.destinations import Destination

ReportKinds = Annotated[
    str | None, typer.Option("--report", metavar="KINDS", help="Make reports of DICOM images: sr, pdf, or sr,pdf.")
]
ToFolder = Annotated[Path | None, typer.Option("--to", metavar="FOLDER", help="Write reports into this folder.")]
ToArchive = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Store reports in this DICOMweb archive, such as https://pacs/dicom-web."),
]


def read_report_options(
    kinds: str | None,
    to: Path | None,
    to_archive: str | None,
    credentials: Path | None,
    ca_file: Path | None,
    insecure_http: bool,
) -> "tuple[tuple[str, ...], Destination | None]":
    """Read the kinds of reports and their destination; gives no kind and None if no report is requested.

    Raises:
        UsageError: a destination without reports, reports without a destination, or two destinations.
        ReportError: an unknown kind.
    """
    from he_infer.errors import UsageError

    if kinds is None:
        if to is not None or to_archive is not None:
            raise UsageError("--to and --to-archive say where reports go; say which ones with --report sr,pdf.")
        return (), None
    from he_infer.client.pacs.reports.kinds import parse_kinds
    from he_infer.client.pacs.watch.destinations import ArchiveDestination, FolderDestination

    parsed = parse_kinds(kinds)
    if (to is None) == (to_archive is None):
        raise UsageError("Say where reports go: give --to FOLDER or --to-archive URL, and not both.")
    if to is not None:
        return parsed, FolderDestination(to)
    return parsed, ArchiveDestination(open_archive(to_archive or "", credentials, ca_file, insecure_http))
