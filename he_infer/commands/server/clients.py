"""`he-infer clients`: list a server's clients, change their limits, delete a client."""

from dataclasses import asdict
from typing import Annotated

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.commands.server.state_options import (
    DEFAULT_DATA_DIR,
    BlobUrl,
    DailyQueries,
    DatabaseUrl,
    DataDir,
    RegistrationsPerHour,
    RequestsPerMinute,
    StorageQuota,
    TotalQueries,
    open_state,
    operated,
)
from he_infer.terminal import PlainTable, make_console

app = typer.Typer(help="List a server's clients and their use, change their limits, delete one.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="CLIENT", help="Name of the client, as `he-infer clients list` has it.")]
_QUOTAS = ("storage_quota", "daily_queries", "total_queries", "requests_per_minute", "registrations_per_hour")


@app.command("list")
def list_(
    *, json_file: JsonFile = None, data_dir: DataDir = DEFAULT_DATA_DIR, database_url: DatabaseUrl = None
) -> None:
    """List all clients with their use and their limits. '-' means that the server's default applies.

    Example: `he-infer clients list --data-dir /var/lib/he-infer`
    """
    from he_infer.files import write_json

    with operated(data_dir, database_url) as (metadata, _):
        records = metadata.clients.list_all()
    if json_file is not None:
        write_json(json_file, {"clients": [asdict(record) for record in records]})
    table = PlainTable(
        "client", "objects (versions)", "bytes", "of", "today", "of", "ever", "a model", "a minute", "keys an hour"
    )
    for record in records:
        quotas = record.quotas
        table.add_row(
            record.name,
            f"{record.objects} ({record.versions})",
            f"{record.object_bytes + record.key_bytes:,}",
            _bound(quotas.storage_quota),
            str(record.images_today),
            _bound(quotas.daily_queries),
            str(record.images_ever),
            _bound(quotas.total_queries),
            _bound(quotas.requests_per_minute),
            _bound(quotas.registrations_per_hour),
        )
    make_console(width=120).print(table)


@app.command()
def limit(
    client: Name,
    *,
    storage_quota: StorageQuota = None,
    daily_queries: DailyQueries = None,
    total_queries: TotalQueries = None,
    requests_per_minute: RequestsPerMinute = None,
    registrations_per_hour: RegistrationsPerHour = None,
    lift: Annotated[
        list[str] | None, typer.Option(help=f"Remove a limit: {', '.join(_QUOTAS)}; repeat for several.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Change a client's limits; a running server applies them from the next request on.

    Example: `he-infer clients limit "St. Mary" --daily-queries 500 --lift storage_quota`
    """
    from he_infer.errors import UsageError

    lifted = [name.replace("-", "_") for name in lift or ()]
    if unknown := [name for name in lifted if name not in _QUOTAS]:
        raise UsageError(f"There is no bound named {unknown[0]!r}; expected one of: {', '.join(_QUOTAS)}.")
    values = (storage_quota, daily_queries, total_queries, requests_per_minute, registrations_per_hour)
    given = dict(zip(_QUOTAS, values, strict=True))
    changes = {name: value for name, value in given.items() if value is not None or name in lifted}
    if not changes:
        raise UsageError("Nothing to change; give a bound, or --lift one (see --help).")
    stated = {name: "none" if value is None else value for name, value in changes.items()}
    with operated(data_dir, database_url) as (metadata, audit):
        metadata.clients.set_quotas(client, changes)
        audit.by_operator("client.limit", name=client, **stated)
    typer.echo(f"The bounds of {client} are changed.")


@app.command()
def remove(
    client: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
    blob_url: BlobUrl = None,
) -> None:
    """Delete a client: its tokens, evaluation keys, counts, and ALL its sealed objects. The audit log stays.

    Example: `he-infer clients remove "St. Mary" --data-dir /var/lib/he-infer`
    """
    from he_infer.server.evidence.audit_log import AuditLog

    state = open_state(data_dir, database_url, blob_url, None)
    if not yes:
        typer.confirm(f"Delete all that {client} has stored here, for good?", abort=True)
    blobs = state.metadata.clients.remove(client)
    AuditLog(state.audit).by_operator("client.remove", name=client, blobs=len(blobs))
    for path in blobs:
        state.blobs.delete(path)
    state.metadata.close()
    typer.echo(f"{client} and {len(blobs)} blobs are deleted.")


def _bound(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
