"""`he-infer tokens` and `he-infer audit`: the operator's commands on a server's data folder, running or not."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(help="Make, list and revoke the bearer tokens of a server's clients.", no_args_is_help=True)
audit_app = typer.Typer(help="Check a server's audit log.", no_args_is_help=True)

DataDir = Annotated[Path, typer.Option(help="The server's data folder.", envvar="HE_INFER_SERVER_DATA_DIR")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(help="The server's database, where it is not SQLite.", envvar="HE_INFER_SERVER_DATABASE_URL"),
]


@app.command()
def add(
    client: Annotated[str, typer.Argument(help="Name of the client; made where it is new.")],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="classify, store or admin; repeat for several.", show_default="classify and store"),
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Days until it expires; without, it does not.")] = None,
    storage_quota: Annotated[int | None, typer.Option(min=0, help="Bytes that the client may store.")] = None,
    daily_queries: Annotated[int | None, typer.Option(min=0, help="Images that the client may classify a day.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Write the token here (mode 0600), not to the screen.")
    ] = None,
    data_dir: DataDir = Path("he-infer-server"),
    database_url: DatabaseUrl = None,
) -> None:
    """Make a token for a client. It is shown once; the server keeps its hash alone.

    Example: `he-infer tokens add "St. Mary" --scope classify --days 90 --token-file st-mary.token`
    """
    from he_infer.server import service, tokens
    from he_infer.server.audit import AuditLog

    scopes = tokens.parse_scopes(scope or ("classify", "store"))
    service.prepare_data_dir(data_dir)
    token = tokens.new_token()
    if token_file is not None:
        service.write_secret(token_file, token.text + "\n")
    metadata = service.open_metadata(database_url, data_dir)
    metadata.add_token(
        client,
        token,
        scopes,
        expires=None if days is None else time.time() + days * 86400,
        storage_quota=storage_quota,
        daily_queries=daily_queries,
    )
    metadata.close()
    AuditLog(data_dir / service.AUDIT_FILE).append(
        "token.add", client="operator", request_id="-", outcome="ok", token=token.token_id, name=client
    )
    if token_file is None:
        typer.echo(token.text)
    else:
        typer.echo(f"Token {token.token_id} written to {token_file}.")


@app.command("list")
def list_(*, data_dir: DataDir = Path("he-infer-server"), database_url: DatabaseUrl = None) -> None:
    """List all tokens: never the tokens themselves.

    Example: `he-infer tokens list --data-dir /var/lib/he-infer`
    """
    from he_infer.server import service

    service.prepare_data_dir(data_dir)
    metadata = service.open_metadata(database_url, data_dir)
    table = Table("id", "client", "scopes", "made", "expires", "state")
    for record in metadata.list_tokens():
        expired = record.expires is not None and record.expires <= time.time()
        state = "revoked" if record.revoked is not None else "expired" if expired else "valid"
        scopes = " ".join(sorted(scope.value for scope in record.scopes))
        table.add_row(record.token_id, record.client, scopes, _date(record.created), _date(record.expires), state)
    metadata.close()
    Console(width=120).print(table)


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="The token's id, from `he-infer tokens list`.")],
    *,
    data_dir: DataDir = Path("he-infer-server"),
    database_url: DatabaseUrl = None,
) -> None:
    """Revoke a token: the running server refuses it from its next request on.

    Example: `he-infer tokens revoke 0f1e2d3c4b5a6978`
    """
    from he_infer.server import service
    from he_infer.server.audit import AuditLog

    service.prepare_data_dir(data_dir)
    metadata = service.open_metadata(database_url, data_dir)
    metadata.revoke_token(token_id)
    metadata.close()
    AuditLog(data_dir / service.AUDIT_FILE).append(
        "token.revoke", client="operator", request_id="-", outcome="ok", token=token_id
    )
    typer.echo(f"Token {token_id} is revoked.")


@audit_app.command()
def verify(
    *,
    data_dir: DataDir = Path("he-infer-server"),
    expect: Annotated[str | None, typer.Option(help="Hash of the last line as kept elsewhere.")] = None,
) -> None:
    """Check that no line of the audit log was changed, dropped or inserted.

    Example: `he-infer audit verify --data-dir /var/lib/he-infer`
    """
    from he_infer.errors import NotAuthentic
    from he_infer.server.audit import verify as verify_chain
    from he_infer.server.service import AUDIT_FILE

    chain = verify_chain(data_dir / AUDIT_FILE)
    if expect is not None and chain.head != expect:
        raise NotAuthentic(
            f"The audit log ends in {chain.head}, not in {expect}: lines were cut off its end, or added."
        )
    typer.echo(f"{chain.entries} entries, unbroken. Last hash: {chain.head}")


def _date(seconds: float | None) -> str:
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
