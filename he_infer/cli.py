"""`he-infer`: the command line of both sides. It only registers the commands; each imports its modules when it runs."""

import typer

from he_infer import terminal
from he_infer.commands.client import keys, receipts
from he_infer.commands.client.classify import classify
from he_infer.commands.client.console import console
from he_infer.commands.client.doctor import doctor
from he_infer.commands.client.import_model import import_model
from he_infer.commands.client.plan import plan
from he_infer.commands.client.publish import publish
from he_infer.commands.client.train import train
from he_infer.commands.client.watch import watch
from he_infer.commands.demo import demo
from he_infer.commands.global_options import choose
from he_infer.commands.server import clients, store, tokens
from he_infer.commands.server.serve import serve
from he_infer.commands.vault.export_recipient import export_recipient
from he_infer.commands.vault.inspect import inspect
from he_infer.commands.vault.protect import protect
from he_infer.commands.vault.rekey import rekey
from he_infer.commands.vault.resolve import resolve
from he_infer.commands.vault.restore import restore, verify
from he_infer.commands.vault.share import recipient_key, recipients, share, unshare

app = typer.Typer(
    name="he-infer",
    help="Classify medical images in a cloud that never sees them.",
    invoke_without_command=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

for command, panel in (
    (demo, "Try it"),
    (train, "Model owner"),
    (publish, "Model owner"),
    (classify, "Client"),
    (doctor, "Client"),
    (watch, "Client"),
    (console, "Client"),
    (plan, "Model owner"),
    (protect, "Image vault"),
    (restore, "Image vault"),
    (inspect, "Image vault"),
    (verify, "Image vault"),
    (rekey, "Image vault"),
    (share, "Image vault"),
    (unshare, "Image vault"),
    (recipients, "Image vault"),
    (resolve, "Image vault"),
    (recipient_key, "Image vault"),
    (export_recipient, "Image vault"),
    (serve, "Server"),
):
    app.command(rich_help_panel=panel)(command)
app.command("import", rich_help_panel="Model owner")(import_model)
app.add_typer(keys.app, name="keys", rich_help_panel="Client")
app.add_typer(receipts.app, name="receipts", rich_help_panel="Client")
app.add_typer(tokens.app, name="tokens", rich_help_panel="Server")
app.add_typer(clients.app, name="clients", rich_help_panel="Server")
app.add_typer(store.app, name="store", rich_help_panel="Server")
app.add_typer(tokens.audit_app, name="audit", rich_help_panel="Server")

app.callback()(choose)


def main() -> None:
    """Run `he-infer`."""
    terminal.run(app)
