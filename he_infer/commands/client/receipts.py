"""`he-infer receipts`: lists and verifies the receipts that a server has signed."""

import time
from pathlib import Path
from typing import Annotated

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.terminal import PlainTable, make_console

app = typer.Typer(help="Verify and list the receipts that a server gave for its answers.", no_args_is_help=True)

ReceiptFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A file of 'classify --receipts', or a report of 'classify --json'.")
]


@app.command()
def verify(
    file: ReceiptFile,
    *,
    server_key: Annotated[
        str | None, typer.Option(help="The server's public key, hex, as its operator gave it to you.")
    ] = None,
    bundle_file: Annotated[
        Path | None,
        typer.Option("--bundle", help="The model (part or whole bundle) whose head the receipts must name."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Check every receipt's signature, and that all name one server and, with a bundle, one model.

    A receipt proves what the server claimed to have computed, on which request and when. It does not prove that the
    server did the computation; canaries test that.

    Example: `he-infer receipts verify st-mary.receipts --server-key 5f0c... --bundle chest.hebundle`
    """
    from he_infer.client.verify import receipts as receipt
    from he_infer.errors import NotAuthentic, UsageError
    from he_infer.files import write_json
    from he_infer.publication.parts import read_head_digest

    receipts = receipt.read(file)
    keys = {entry.server_key for entry in receipts}
    if server_key is not None and (len(server_key) != 64 or set(server_key.lower()) - set("0123456789abcdef")):
        raise UsageError("A server's public key is 64 hex digits; see receipt_key in its GET /v1/info.")
    strange = keys - {server_key.lower()} if server_key else set(sorted(keys)[1:])
    if strange:
        expected = "the one given" if server_key else "one key for all of them"
        raise NotAuthentic(f"{file} has receipts signed with other keys; expected {expected}. Do not rely on them.")
    if bundle_file is not None:
        digest = read_head_digest(bundle_file)
        others = sum(entry.head_digest != digest for entry in receipts)
        if others:
            raise NotAuthentic(f"{file}: {others} of {len(receipts)} receipts name another head than {bundle_file}'s.")
    times = [entry.time for entry in receipts]
    table = PlainTable(show_header=False)
    table.add_row("receipts", f"{len(receipts)}, all signatures valid")
    table.add_row("server's key", keys.pop() + ("" if server_key else "  (compare it with the operator's)"))
    table.add_row("models", ", ".join(sorted({entry.model for entry in receipts})))
    table.add_row("from", _moment(min(times)))
    table.add_row("to", _moment(max(times)))
    make_console(width=120).print(table)
    if json_file is not None:
        write_json(
            json_file,
            {
                "receipts": len(receipts),
                "server_key": receipts[0].server_key,
                "models": sorted({entry.model for entry in receipts}),
                "head_digests": sorted({entry.head_digest for entry in receipts}),
                "from_ms": min(times),
                "to_ms": max(times),
            },
        )


@app.command("list")
def list_(file: ReceiptFile) -> None:
    """List receipts: time, model, plan, and the digests of request and answer.

    Example: `he-infer receipts list st-mary.receipts`
    """
    from he_infer.client.verify import receipts as receipt

    table = PlainTable("time", "model", "plan", "request", "answer")
    for entry in receipt.read(file):
        table.add_row(_moment(entry.time), entry.model, entry.plan[:12], entry.request[:16], entry.answer[:16])
    make_console(width=120).print(table)


def _moment(milliseconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms since 1970"
