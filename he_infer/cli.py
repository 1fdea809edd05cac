"""`he-infer`: the command line of both sides. It only registers the commands; each imports what it needs as it runs."""

import typer

from he_infer import console
from he_infer.commands import clients, keys, receipts, store, tokens
from he_infer.commands.classify import classify
from he_infer.commands.demo import demo
from he_infer.commands.inspect import inspect
from he_infer.commands.plan import plan
from he_infer.commands.protect import protect
from he_infer.commands.rekey import rekey
from he_infer.commands.restore import restore, verify
from he_infer.commands.serve import serve
from he_infer.commands.train import train

app = typer.Typer(
    name="he-infer",
    help="Classify medical images in a cloud that never sees them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)

for command, panel in (
    (demo, "Try it"),
    (train, "Client"),
    (classify, "Client"),
    (plan, "Client"),
    (protect, "Image vault"),
    (restore, "Image vault"),
    (inspect, "Image vault"),
    (verify, "Image vault"),
    (rekey, "Image vault"),
    (serve, "Server"),
):
    app.command(rich_help_panel=panel)(command)
app.add_typer(keys.app, name="keys", rich_help_panel="Client")
app.add_typer(receipts.app, name="receipts", rich_help_panel="Client")
app.add_typer(tokens.app, name="tokens", rich_help_panel="Server")
app.add_typer(clients.app, name="clients", rich_help_panel="Server")
app.add_typer(store.app, name="store", rich_help_panel="Server")
app.add_typer(tokens.audit_app, name="audit", rich_help_panel="Server")


def main() -> None:
    """Run `he-infer`."""
    console.run(app)
