"""`he-infer`: the command line of both sides. It only registers the commands; each imports what it needs as it runs."""

import typer

from he_infer import console

app = typer.Typer(
    name="he-infer",
    help="Classify medical images in a cloud that never sees them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run `he-infer`."""
    console.run(app)
