"""`he-experiments crossval`: compares recipes for a small set without its test images.

One validation split of a small set says little: BreastMNIST's has 78 images. Cross-validation asks every image of the
training and validation splits once, by networks that have not seen it.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from experiments.records.finish import DataSet, RecordFile
from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import MOST_SEED, require_finite

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.accuracy.folds import FoldQuality


def crossval(
    data: DataSet,
    *,
    head: Annotated[Literal["linear", "mlp", "cubic"], typer.Option(help="The head that is trained.")] = "mlp",
    networks: Annotated[
        int, typer.Option(min=1, max=16, help="Networks a fold, averaged in ones, twos and so on.")
    ] = 4,
    width: Annotated[int, typer.Option(min=16, max=4096, help="Features of each network.")] = 64,
    hidden: Annotated[int, typer.Option(min=1, max=4096, help="Hidden values of each network.")] = 8,
    offset: Annotated[
        float, typer.Option(callback=require_finite, help="Initial offset of the inputs of x²; 0 starts around zero.")
    ] = 1.0,
    mixup: Annotated[
        float,
        typer.Option(min=0, callback=require_finite, help="Parameter of the Beta distribution that blends pairs."),
    ] = 0.0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Parts that are left out in turn.")] = 5,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of folds and training.")] = 0,
    json_file: JsonFile = None,
    record: RecordFile = None,
) -> None:
    """Cross-validate a recipe on the training and validation images; the test images are not looked at.

    Example: `he-experiments crossval --data breastmnist --networks 4 --offset 0 --jobs 2`
    """
    from experiments.accuracy.folds import Fold, average_networks, score_all_folds
    from experiments.records.finish import format_command, refuse_missing_folders, write_outcome
    from he_infer.terminal import make_console, show_progress
    from models import datasets
    from models.training.train import Recipe

    refuse_missing_folders(json=json_file, record=record)
    console = make_console()
    dataset = datasets.load(data)
    recipe = Recipe(epochs=epochs, towers=1, offset=offset, mixup=mixup, calibrate=False)
    work = [
        Fold(data, head, width, hidden, recipe, folds, part, seed, network)
        for network in range(networks)
        for part in range(folds)
    ]
    with show_progress(f"{networks} networks by {folds} folds", len(work), console=console) as step:
        scored = score_all_folds(work, jobs, step)
    qualities = average_networks(scored, networks)
    _show(console, dataset.name, len(dataset.train) + len(dataset.val), qualities)
    write_outcome(
        console,
        "crossval",
        command=format_command(
            "crossval",
            data=data,
            head=head,
            networks=networks,
            width=width,
            hidden=hidden,
            offset=offset,
            mixup=mixup or None,
            epochs=epochs,
            folds=folds,
            seed=seed,
        ),
        seed=seed,
        parameters={
            "dataset": dataset.name,
            "digest": dataset.digest,
            "head": head,
            "networks": networks,
            "width": width,
            "hidden": hidden,
            "offset": offset,
            "mixup": mixup,
            "epochs": epochs,
            "folds": folds,
        },
        figures={str(one.networks): vars(one) for one in qualities},
        json=json_file,
        record=record,
    )


def _show(console: "Console", dataset: str, images: int, qualities: "list[FoldQuality]") -> None:
    from experiments.present.screen_tables import figures_table

    title = f"{dataset}: {images} training and validation images, each scored by networks that have not seen it"
    table = figures_table(title, ("networks",), ("AUC", "accuracy", "balanced accuracy", "log loss"))
    for one in qualities:
        table.add_row(
            str(one.networks),
            f"{one.auc:.4f}",
            f"{one.accuracy:.4f}",
            f"{one.balanced_accuracy:.4f}",
            f"{one.log_loss:.4f}",
        )
    console.print(table)
    console.print("Means over the folds, and over every choice of so many networks.", highlight=False)
