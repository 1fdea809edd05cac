"""`he-infer keys`: make a secret key, keep it under a passphrase, register its evaluation keys with a server."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from he_infer.commands.client import wrappings
from he_infer.commands.client.connection_options import DEFAULT_URL, CaFile, ClientCert, TokenFile, Url
from he_infer.commands.client.rotate import prune, rotate
from he_infer.commands.client.unlock_option import get_unlock
from he_infer.commands.json_option import JsonFile
from he_infer.commands.passphrase_option import PassphraseFile, get_passphrase

if TYPE_CHECKING:
    from he_infer.client.connection.session import Session
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.client.served_model import ServedModel

app = typer.Typer(help="Make, register, show and list the client's keys.", no_args_is_help=True)
app.add_typer(wrappings.app, name="wrappings")
for command in (rotate, prune, wrappings.recover):
    app.command()(command)

KeyPath = Annotated[Path, typer.Argument(metavar="KEYFILE", help="The secret key's file, sealed under a passphrase.")]
Model = Annotated[str | None, typer.Option(help="Id of the model; not needed where the server has one.")]


@app.command()
def new(
    key_file: KeyPath,
    *,
    url: Url = DEFAULT_URL,
    model: Model = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Images a request: which of the model's plans to make keys for.")
    ] = 1,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    passphrase_file: PassphraseFile = None,
    json_file: JsonFile = None,
) -> None:
    """Make a secret key for a model of a server, and register its evaluation keys there.

    The secret key stays in KEYFILE on this machine; the server gets evaluation keys, which decrypt nothing.

    Example: `he-infer keys new hospital.key --url https://cloud.example:8443 --token-file cloud.token`
    """
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.errors import UsageError

    if key_file.exists():
        raise UsageError(f"{key_file} exists; a key is never overwritten. Choose another name, or remove it yourself.")
    with _session(url, token_file, ca_file, client_cert) as session:
        served = choose_model(session.models(), model)
        plan = next((plan for plan in served.plans if plan.batch == batch), None)
        if plan is None:
            sizes = ", ".join(str(plan.batch) for plan in served.plans)
            raise UsageError(f"{served.id} has no plan for {batch} images a request; the server offers: {sizes}.")
        keys = KeyFile.new([plan], server_key=session.server_key)
        keys.save(key_file, get_passphrase(passphrase_file, confirm=True))
        typer.echo(f"Secret key written to {key_file}.")
        _register(session, keys, json_file, served.id)


@app.command()
def register(
    key_file: KeyPath,
    *,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    passphrase_file: PassphraseFile = None,
    json_file: JsonFile = None,
) -> None:
    """Register the evaluation keys of an existing secret key, with another server or again.

    Example: `he-infer keys register hospital.key --url https://other.example:8443 --token-file other.token`
    """
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.errors import MissingKey

    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    with _session(url, token_file, ca_file, client_cert) as session:
        for served in session.models():
            if {plan.digest for plan in keys.plans} <= {plan.digest for plan in served.plans}:
                keys.pinned(session.server_key)
                _register(session, keys, json_file, served.id)
                return
        raise MissingKey(
            f"{key_file} was made for a plan that {url} does not offer: its model or precision changed. Make new keys "
            "with 'he-infer keys new'."
        )


@app.command()
def show(key_file: KeyPath, *, passphrase_file: PassphraseFile = None) -> None:
    """Say what a secret key file is for. The key itself is never shown.

    Example: `he-infer keys show hospital.key`
    """
    from he_infer.client.keys.key_file import KeyFile

    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    table = Table(show_header=False)
    table.add_row("made", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(keys.created)))
    table.add_row("key set", keys.key_set)
    table.add_row("server's signing key", keys.server_key or "none yet")
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
    Console(width=120).print(table)


@app.command()
def forget(
    key_set: Annotated[str, typer.Argument(help="Id of the key set, from 'he-infer keys list' or 'keys show'.")],
    *,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
) -> None:
    """Have a server delete a key set. The key file stays; its keys can be registered again.

    Example: `he-infer keys forget 3f2a... --url https://cloud.example:8443 --token-file cloud.token`
    """
    from he_infer.errors import MissingKey

    with _session(url, token_file, ca_file, client_cert) as session:
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
) -> None:
    """List the key sets that are registered for this client at a server.

    Example: `he-infer keys list --url https://cloud.example:8443 --token-file cloud.token`
    """
    with _session(url, token_file, ca_file, client_cert) as session:
        plans = {plan.digest: (served, plan) for served in session.models() for plan in served.plans}
        table = Table(Column("key set", no_wrap=True), "model", "images a request", "plan", "registered", "MB", "state")
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
    Console(width=120).print(table)


def choose_model(models: "list[ServedModel]", wanted: str | None) -> "ServedModel":
    """The model of this id or name, or the only one there is.

    Raises:
        UsageError: there is none such, or a choice is needed; the message lists those there are.
    """
    from he_infer.errors import UsageError

    fitting = [model for model in models if wanted in (None, model.id, model.name)]
    if len(fitting) == 1:
        return fitting[0]
    offered = ", ".join(model.id for model in models) or "none"
    problem = "Choose one with --model" if wanted is None else f"The server has no one model {wanted!r}"
    raise UsageError(f"{problem}; it serves: {offered}.")


def _session(url: str, token_file: Path | None, ca_file: Path | None, client_cert: Path | None) -> "Session":
    from he_infer.client.connection.session import Session
    from he_infer.commands.client.token_option import get_token

    return Session(url, get_token(token_file), ca_file=ca_file, client_cert=client_cert)


def _register(session: "Session", keys: "KeyFile", json_file: Path | None, model: str) -> None:
    from he_infer.files import write_json

    total = 0
    for plan in keys.plans:
        if plan.needs_keys:
            parts = keys.secret_key(plan).evaluation_keys(plan)
            total += session.register(plan, keys.key_set, parts).bytes
    typer.echo(f"Key set {keys.key_set} registered for {model}: {total / 1e6:.1f} MB.")
    if json_file is not None:
        figures = {"model": model, "plan": keys.plans[0].digest, "key_set": keys.key_set}
        write_json(json_file, {**figures, "evaluation_key_bytes": total})
