"""Options that the operator's commands share: the locations of a server's state, and a client's limits."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from he_infer.server.evidence.audit_log import AuditLog
    from he_infer.server.metadata import Metadata
    from he_infer.server.storage.backup import State

DEFAULT_DATA_DIR = Path("he-infer-server")

DataDir = Annotated[Path, typer.Option(help="The server's data folder.", envvar="HE_INFER_SERVER_DATA_DIR")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(help="The server's database, where it is not SQLite.", envvar="HE_INFER_SERVER_DATABASE_URL"),
]
BlobUrl = Annotated[
    str | None,
    typer.Option(help="The server's object store, where it is not a folder.", envvar="HE_INFER_SERVER_BLOB_URL"),
]
SigningKey = Annotated[
    Path | None,
    typer.Option(
        help="Signing key of the receipts, where it is not in the data folder.", envvar="HE_INFER_SERVER_SIGNING_KEY"
    ),
]

_MOST = 2**63 - 1
"""Largest number that the database holds."""

StorageQuota = Annotated[
    int | None,
    typer.Option(min=0, max=_MOST, help="Bytes that the client may store: sealed objects and evaluation keys."),
]
DailyQueries = Annotated[int | None, typer.Option(min=0, max=_MOST, help="Images that the client may classify a day.")]
TotalQueries = Annotated[
    int | None, typer.Option(min=0, max=_MOST, help="Images that the client may classify with any one model, ever.")
]
RequestsPerMinute = Annotated[
    int | None, typer.Option(min=1, max=_MOST, help="Requests of any kind that the client may send a minute.")
]
RegistrationsPerHour = Annotated[
    int | None, typer.Option(min=1, help="Evaluation keys that the client may register an hour, counted by plan.")
]


@contextmanager
def operated(data_dir: Path, database_url: str | None) -> "Iterator[tuple[Metadata, AuditLog]]":
    """Open the database and the audit log of a server, running or not; close the database at the end.

    Raises:
        UsageError, FormatError, Refused, OSError: one of them cannot be used.
    """
    from he_infer.server import service
    from he_infer.server.evidence.audit_log import AuditLog

    service.prepare_data_dir(data_dir)
    with contextlib.closing(service.open_metadata(database_url, data_dir)) as metadata:
        yield metadata, AuditLog(data_dir / service.AUDIT_FILE)


def open_state(data_dir: Path, database_url: str | None, blob_url: str | None, signing_key: Path | None) -> "State":
    """Open the stores that a server with these settings would use.

    Raises:
        UsageError, FormatError, Refused, OSError: one of them cannot be used.
    """
    from he_infer.server import service
    from he_infer.server.storage.backup import State
    from he_infer.server.storage.blobs import Blobs

    service.prepare_data_dir(data_dir)
    return State(
        metadata=service.open_metadata(database_url, data_dir),
        blobs=Blobs(blob_url or data_dir / "blobs"),
        audit=data_dir / service.AUDIT_FILE,
        signing_key=signing_key or data_dir / service.SIGNING_KEY_FILE,
    )


def state_of_token(expires: float | None, revoked: float | None) -> str:
    """State of a token now: `valid`, `expired` or `revoked`."""
    if revoked is not None:
        return "revoked"
    return "expired" if expires is not None and expires <= time.time() else "valid"
