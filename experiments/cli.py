"""`he-experiments`: the command line. It only registers the commands; each imports what it needs as it runs."""

import typer

from experiments.accuracy import accuracy
from experiments.accuracy_tables import accuracy_tables
from experiments.chosen_images import chosen_images
from experiments.cipher_speed import cipher_speed
from experiments.cipher_stages import cipher_stages
from experiments.cipher_suite import cipher
from experiments.crossval import crossval
from experiments.extraction import extraction
from experiments.inversion import inversion
from experiments.membership import membership
from experiments.paper.command import paper
from experiments.price import price
from experiments.report import compare, report
from experiments.speed import speed
from experiments.tail import tail
from he_infer import console

app = typer.Typer(
    name="he-experiments",
    help="Settle by measurement what encryption costs, and what the image cipher is worth.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)

for command, name, panel in (
    (accuracy, "accuracy", "Encrypted inference"),
    (accuracy_tables, "accuracy-tables", "Encrypted inference"),
    (crossval, "crossval", "Encrypted inference"),
    (tail, "tail", "Encrypted inference"),
    (speed, "speed", "Encrypted inference"),
    (price, "price", "Encrypted inference"),
    (inversion, "inversion", "What leaks"),
    (membership, "membership", "What leaks"),
    (extraction, "extraction", "What leaks"),
    (chosen_images, "chosen-images", "What leaks"),
    (cipher, "cipher", "Image cipher"),
    (paper, "paper", "The paper's figures and systems"),
    (cipher_speed, "cipher-speed", "Image cipher"),
    (report, "report", "Records"),
    (compare, "compare", "Records"),
    (cipher_stages, "cipher-stages", "Image cipher"),
):
    app.command(name, rich_help_panel=panel)(command)


def main() -> None:
    """Run `he-experiments`."""
    console.run(app)
