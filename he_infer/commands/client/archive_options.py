"""Options for the connection of a client's commands to an image archive."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from he_infer.client.pacs.archive.dicomweb import Archive

ArchiveCredentials = Annotated[
    Path | None, typer.Option(help="File (mode 0600) with one line: user:password, or Bearer TOKEN.")
]
ArchiveCa = Annotated[Path | None, typer.Option(help="PEM file of the authority behind the archive's certificate.")]
ArchiveInsecureHttp = Annotated[
    bool,
    typer.Option(
        "--archive-insecure-http", help="Allow plain http to an archive on another machine: images travel unencrypted."
    ),
]
MostMegabytes = Annotated[
    int, typer.Option(min=1, max=65536, help="Largest image that is fetched from an archive, MB.")
]


def open_archive(
    url: str, credentials: Path | None, ca_file: Path | None, insecure_http: bool, most_megabytes: int = 512
) -> "Archive":
    """Open the archive that these options name.

    Raises:
        UsageError, OSError: an option is not usable.
    """
    from he_infer.client.pacs.archive.dicomweb import Archive

    return Archive(
        url,
        credentials=credentials,
        ca_file=ca_file,
        insecure_http=insecure_http,
        most_bytes=most_megabytes * 2**20,
    )
