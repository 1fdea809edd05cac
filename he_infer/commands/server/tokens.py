"""`he-infer tokens` and `he-infer audit`: the operator's commands on a server's data folder, running or not."""

import time
from pathlib import Path
from typing import Annotated

import typer

from he_infer.commands.number_options import require_finite
from he_infer.commands.server.state_options import (
    DEFAULT_DATA_DIR,
    DailyQueries,
    DatabaseUrl,
    DataDir,
    RegistrationsPerHour,
    RequestsPerMinute,
    StorageQuota,
    TotalQueries,
    operated,
    state_of_token,
)
from he_infer.terminal import PlainTable, make_console

MAX_DAYS = 36_500
"""Longest life of a token that is given one, days: later dates have no calendar form on every system."""

app = typer.Typer(help="Make, list, rotate and revoke the bearer tokens of a server's clients.", no_args_is_help=True)
audit_app = typer.Typer(help="Check a server's audit log.", no_args_is_help=True)


@app.command()
def add(
    client: Annotated[str, typer.Argument(help="Name of the client; made where it is new.")],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="classify, store or admin; repeat for several.", show_default="classify and store"),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(
            min=0, max=MAX_DAYS, callback=require_finite, help="Days until the token expires; by default it does not."
        ),
    ] = None,
    storage_quota: StorageQuota = None,
    daily_queries: DailyQueries = None,
    total_queries: TotalQueries = None,
    requests_per_minute: RequestsPerMinute = None,
    registrations_per_hour: RegistrationsPerHour = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Write the token here (mode 0600), not to the screen.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a token for a client. It is shown once; the server keeps only its hash.

    Example: `he-infer tokens add "St. Mary" --scope classify --days 90 --token-file st-mary.token`
    """
    from he_infer.server import service, tokens
    from he_infer.server.metadata import Quotas

    scopes = tokens.parse_scopes(scope or ("classify", "store"))
    with operated(data_dir, database_url) as (metadata, audit):
        token = tokens.new_token()
        if token_file is not None:
            service.write_secret(token_file, token.text + "\n")
        metadata.tokens.add(
            client,
            token,
            scopes,
            expires=None if days is None else time.time() + days * 86400,
            quotas=Quotas(storage_quota, daily_queries, total_queries, requests_per_minute, registrations_per_hour),
        )
        audit.by_operator("token.add", token=token.token_id, name=client)
    if token_file is None:
        typer.echo(token.text)
    else:
        typer.echo(f"Token {token.token_id} written to {token_file}.")


@app.command("list")
def list_(*, data_dir: DataDir = DEFAULT_DATA_DIR, database_url: DatabaseUrl = None) -> None:
    """List all tokens by id; the tokens themselves are not stored.

    Example: `he-infer tokens list --data-dir /var/lib/he-infer`
    """
    with operated(data_dir, database_url) as (metadata, _):
        records = metadata.tokens.list_all()
    table = PlainTable("id", "client", "scopes", "made", "expires", "state")
    for record in records:
        state = state_of_token(record.expires, record.revoked)
        scopes = " ".join(sorted(scope.value for scope in record.scopes))
        table.add_row(record.token_id, record.client, scopes, _date(record.created), _date(record.expires), state)
    make_console(width=120).print(table)


@app.command()
def rotate(
    token_id: Annotated[str, typer.Argument(help="The old token's id, from `he-infer tokens list`.")],
    *,
    hours: Annotated[
        float,
        typer.Option(
            min=0,
            callback=require_finite,
            help="Hours for which the old token is still accepted; 0 revokes it at once.",
        ),
    ] = 24.0,
    days: Annotated[
        float | None,
        typer.Option(
            min=0, callback=require_finite, help="Days until the new token expires.", show_default="as the old one's"
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Write the new token here (mode 0600), not to the screen.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a new token of the same client and scopes, and let the old one expire after a transition time.

    Example: `he-infer tokens rotate 0f1e2d3c4b5a6978 --hours 48 --token-file st-mary.token`
    """
    from he_infer.server import service, tokens

    with operated(data_dir, database_url) as (metadata, audit):
        token = tokens.new_token()
        if token_file is not None:
            service.write_secret(token_file, token.text + "\n")
        try:
            lifetime = None if days is None else days * 86400
            old = metadata.tokens.rotate(token_id, token, grace=hours * 3600, lifetime=lifetime)
        except Exception:  # after any failure the file must not hold a token that is not valid
            if token_file is not None:
                token_file.unlink()
            raise
        audit.by_operator("token.rotate", token=token_id, new=token.token_id)
    if token_file is None:
        typer.echo(token.text)
    else:
        ends = "is revoked" if hours == 0 else f"is accepted for {hours:g} h more"
        typer.echo(f"Token {token.token_id} of {old.client} written to {token_file}. Token {token_id} {ends}.")


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="The token's id, from `he-infer tokens list`.")],
    *,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Revoke a token: the running server refuses it from its next request on.

    Example: `he-infer tokens revoke 0f1e2d3c4b5a6978`
    """
    with operated(data_dir, database_url) as (metadata, audit):
        metadata.tokens.revoke(token_id)
        audit.by_operator("token.revoke", token=token_id)
    typer.echo(f"Token {token_id} is revoked.")


@audit_app.command()
def verify(
    *,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    expect: Annotated[str | None, typer.Option(help="Hash of the last line as kept elsewhere.")] = None,
    first_key: Annotated[
        Path | None, typer.Option(help="The log's first key, which was moved off the server: audit-*.first-key.")
    ] = None,
) -> None:
    """Check that no line of the audit log was changed, dropped or inserted.

    With --first-key the check finds changes by an intruder who took the server over after the lines were written.
    Without it, the check finds damage and mistakes only.

    Example: `he-infer audit verify --data-dir /var/lib/he-infer`
    """
    from he_infer.errors import NotAuthentic
    from he_infer.server.evidence.audit_key import read_first_key
    from he_infer.server.evidence.audit_log import verify as verify_chain
    from he_infer.server.service import AUDIT_FILE

    chain = verify_chain(data_dir / AUDIT_FILE, None if first_key is None else read_first_key(first_key))
    if expect is not None and chain.head != expect:
        raise NotAuthentic(
            f"The audit log ends in {chain.head}, not in {expect}: lines were cut off its end, or added."
        )
    checked = "unbroken" if first_key is None else "unbroken, each with the MAC of its own moment"
    typer.echo(f"{chain.entries} entries, {checked}. Last hash: {chain.head}")


def _date(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):  # stored before expiries were bounded
        return "in the far future"
