"""`he-experiments`: the command line. It only registers the commands; each imports what it needs as it runs."""

import typer

from experiments.accuracy.command import accuracy
from experiments.accuracy.crossval import crossval
from experiments.accuracy.left_out_command import left_out
from experiments.cost.compare_peers import peers
from experiments.cost.price import price
from experiments.cost.speed import speed
from experiments.cost.tail import tail
from experiments.image_cipher.chosen_images import chosen_images
from experiments.image_cipher.command import cipher
from experiments.image_cipher.speed import cipher_speed
from experiments.image_cipher.stages import cipher_stages
from experiments.image_cipher.tiny_images import tiny_images
from experiments.leaks.extraction import extraction
from experiments.leaks.inversion import inversion
from experiments.leaks.membership import membership
from experiments.paper.command import paper
from experiments.reports.accuracy_tables import accuracy_tables
from experiments.reports.command import compare, report
from he_infer import terminal as console

app = typer.Typer(
    name="he-experiments",
    help="Measure the cost of encryption and the strength of the image cipher.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)

for command, name, panel in (
    (accuracy, "accuracy", "Encrypted inference"),
    (accuracy_tables, "accuracy-tables", "Encrypted inference"),
    (crossval, "crossval", "Encrypted inference"),
    (left_out, "left-out", "Encrypted inference"),
    (tail, "tail", "Encrypted inference"),
    (speed, "speed", "Encrypted inference"),
    (peers, "peers", "Encrypted inference"),
    (price, "price", "Encrypted inference"),
    (inversion, "inversion", "What leaks"),
    (membership, "membership", "What leaks"),
    (extraction, "extraction", "What leaks"),
    (chosen_images, "chosen-images", "What leaks"),
    (cipher, "cipher", "Image cipher"),
    (tiny_images, "tiny-images", "Image cipher"),
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
