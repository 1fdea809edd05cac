"""`he-infer keys`: makes secret keys, seals them under a passphrase, and registers evaluation keys with a server."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column

from he_infer.commands.client import wrappings
from he_infer.commands.client.connection_options import (
    DEFAULT_URL,
    AcceptNewServerKey,
    CaFile,
    ClientCert,
    InsecureHttp,
    OptionalModelFile,
    TokenFile,
    Url,
    open_session,
)
from he_infer.commands.client.rotate import prune, rotate
from he_infer.commands.client.unlock_option import get_unlock
from he_infer.commands.json_option import JsonFile
from he_infer.commands.passphrase_option import PassphraseFile, get_passphrase
from he_infer.terminal import PlainTable, make_console

if TYPE_CHECKING:
    from he_infer.client.connection.session import Session
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.client.model import ClientModel
    from he_infer.client.served_model import ServedModel

app = typer.Typer(help="Make, register, show and list the client's keys.", no_args_is_help=True)
app.add_typer(wrappings.app, name="wrappings")
for command in (rotate, prune, wrappings.recover):
    app.command()(command)

KeyPath = Annotated[Path, typer.Argument(metavar="KEYFILE", help="The secret key's file, sealed under a passphrase.")]


@app.command()
def new(
    key_file: KeyPath,
    *,
    bundle_file: OptionalModelFile = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Images in a request; repeat for several plans.", show_default="all that are published"
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    insecure_http: InsecureHttp = False,
    server_key: Annotated[
        str | None,
        typer.Option(
            help="The server's public key, hex, as its operator stated it. A server with another key is refused."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    json_file: JsonFile = None,
) -> None:
    """Make secret keys for a model, register its key set with a server, and prove both with test questions.

    The secret keys stay in KEYFILE on this machine; the server gets evaluation keys, which decrypt nothing. The file
    also pins the server's signing key and the model's publisher: compare both with what their owners say.

    Example: `he-infer keys new hospital.key --bundle chest.client.hebundle --url https://cloud.example:8443`
    """
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.client.model import ClientModel
    from he_infer.errors import UsageError
    from he_infer.publication.parts import fingerprint

    if key_file.exists():
        raise UsageError(
            f"{key_file} exists; a key is never overwritten. 'he-infer keys register' registers it again, after an "
            "interruption for example. For other keys choose another name."
        )
    model = None if bundle_file is None else ClientModel.load(bundle_file)
    with open_session(url, token_file, ca_file, client_cert, insecure_http, server_key=server_key) as session:
        served = _find_served(session, model)
        plans = [plan for plan in served.plans if batch is None or plan.batch in batch]
        if batch is not None and len(plans) != len(set(batch)):
            sizes = ", ".join(str(plan.batch) for plan in served.plans)
            raise UsageError(
                f"{served.id} has no plan for {_list(batch)} images a request; there are plans for: {sizes}."
            )
        keys = KeyFile.new(plans, server_key=session.server_key, publisher=model.publisher if model else None)
        keys.save(key_file, get_passphrase(passphrase_file, confirm=True))
        typer.echo(f"Secret keys written to {key_file}.")
        typer.echo(f"Pinned: server {fingerprint(session.server_key)}")
        if model is not None and model.publisher is not None:
            typer.echo(f"Pinned: publisher {fingerprint(model.publisher)}")
        _register(session, keys, model, served, json_file)


@app.command()
def register(
    key_file: KeyPath,
    *,
    bundle_file: OptionalModelFile = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    insecure_http: InsecureHttp = False,
    accept_new_server_key: AcceptNewServerKey = False,
    passphrase_file: PassphraseFile = None,
    json_file: JsonFile = None,
) -> None:
    """Register the key set of an existing key file, with another server or again, and prove it with test questions.

    Example: `he-infer keys register hospital.key --bundle chest.client.hebundle --url https://other.example:8443`
    """
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.client.model import ClientModel

    model = None if bundle_file is None else ClientModel.load(bundle_file)
    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    if model is not None:
        keys.check_publisher(model.path, model.publisher)
    with open_session(url, token_file, ca_file, client_cert, insecure_http) as session:
        pinned = keys.pinned(session.server_key, accept_new=accept_new_server_key)
        served = _find_served(session, model)
        if pinned != keys:
            pinned.save(key_file, update=True)
        _register(session, pinned, model, served, json_file)


@app.command()
def show(key_file: KeyPath, *, passphrase_file: PassphraseFile = None) -> None:
    """Say what a secret key file is for. The key itself is never shown.

    Example: `he-infer keys show hospital.key`
    """
    from he_infer.client.keys.key_file import KeyFile

    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    table = PlainTable(show_header=False)
    table.add_row("made", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(keys.created)))
    table.add_row("key set", keys.key_set)
    table.add_row("server's signing key", keys.server_key or "none yet")
    table.add_row("model's publisher", keys.publisher or "none: a whole bundle, or no model was named")
    table.add_row("opens with", ", ".join(f"{each.kind} {each.id}" for each in keys.custody.wrappings))
    for retired in keys.retired:
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(retired.expires))
        table.add_row("replaced key set", f"{retired.key_set}, kept until {until}")
    for plan in keys.plans:
        switching = "with" if plan.relinearise else "without"
        table.add_row(
            f"plan for {plan.batch} images a request",
            f"{plan.digest}: {len(plan.galois_elements)} rotation keys, {switching} relinearisation",
        )
    make_console(width=120).print(table)


@app.command()
def forget(
    key_set: Annotated[str, typer.Argument(help="Id of the key set, from 'he-infer keys list' or 'keys show'.")],
    *,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    insecure_http: InsecureHttp = False,
) -> None:
    """Let a server delete a key set. The key file stays; its keys can be registered again.

    Example: `he-infer keys forget 3f2a... --url https://cloud.example:8443 --token-file cloud.token`
    """
    from he_infer.errors import MissingKey

    with open_session(url, token_file, ca_file, client_cert, insecure_http) as session:
        entries = [entry for entry in session.key_sets() if entry.key_set == key_set]
        if not entries:
            raise MissingKey(f"{url} has no key set {key_set} of this client. 'he-infer keys list' shows those it has.")
        for entry in entries:
            session.forget_keys(entry.plan, entry.key_set)
    typer.echo(f"Key set {key_set} is forgotten at {url}.")


@app.command("list")
def list_(
    *,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    insecure_http: InsecureHttp = False,
) -> None:
    """List the key sets that are registered for this client at a server.

    Example: `he-infer keys list --url https://cloud.example:8443 --token-file cloud.token`
    """
    with open_session(url, token_file, ca_file, client_cert, insecure_http) as session:
        plans = {plan.digest: (served, plan) for served in session.models() for plan in served.plans}
        table = PlainTable(
            Column("key set", no_wrap=True), "model", "images a request", "plan", "registered", "MB", "state"
        )
        for entry in session.key_sets():
            served, plan = plans.get(entry.plan, (None, None))
            table.add_row(
                entry.key_set,
                served.id if served else "(served no more)",
                str(plan.batch) if plan else "",
                entry.plan[:8],
                time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(entry.created)),
                f"{entry.bytes / 1e6:.1f}",
                "usable" if entry.usable else "not usable",
            )
    make_console(width=120).print(table)


def _find_served(session: "Session", model: "ClientModel | None") -> "ServedModel":
    """Find the server's model: the given one, or the server's only one."""
    from he_infer.errors import UsageError

    offers = session.models()
    if model is not None:
        return model.expect(offers)
    if len(offers) != 1:
        names = ", ".join(offer.id for offer in offers) or "none"
        raise UsageError(f"The server serves: {names}. Say which with --bundle, the client's part of the model.")
    return offers[0]


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _register(
    session: "Session", keys: "KeyFile", model: "ClientModel | None", served: "ServedModel", json_file: Path | None
) -> None:
    from he_infer.client.key_registration import prove_keys, register_keys
    from he_infer.files import PRIVATE, write_json

    total = register_keys(session, keys)
    sent = f"{total / 1e6:.1f} MB" if total else "the server had it already"
    typer.echo(f"Key set {keys.key_set} registered for {served.id}: {sent}.")
    asked = 0
    if model is not None:
        asked = prove_keys(session, keys, model, served)
        typer.echo(f"Test questions, all answered correctly: {asked}, through {len(keys.plans)} of the model's plans.")
    else:
        typer.echo(
            "No test question was asked: give the client's part of the model with --bundle. The plans are those that "
            "the server states; 'classify' uses them only where they are the model's own."
        )
    if json_file is not None:
        figures = {"model": served.id, "plans": [plan.digest for plan in keys.plans], "key_set": keys.key_set}
        write_json(json_file, {**figures, "evaluation_key_bytes": total, "test_questions": asked}, mode=PRIVATE)
