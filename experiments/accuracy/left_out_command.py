"""`he-experiments left-out`: compares recipes for a set of few patients without its test patients."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from experiments.records.finish import TrainingSeed
from he_infer.commands.json_option import JsonFile

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.accuracy.left_out import LeftOut
    from models.bundle import Bundle
    from models.datasets import Dataset


def left_out(
    data: Annotated[str, typer.Option(help="A data set that states patients: 'modality'.")] = "modality",
    *,
    extractor: Annotated[
        Literal["cnn", "efficientnet-lite0"],
        typer.Option(help="A small network that is trained, or pretrained features."),
    ] = "efficientnet-lite0",
    side: Annotated[
        int, typer.Option(min=32, max=224, help="Side of a pretrained network's input, pixels, a multiple of 32.")
    ] = 96,
    head: Annotated[Literal["linear", "mlp", "cubic"], typer.Option(help="The head that is trained.")] = "mlp",
    prevalence: Annotated[
        Literal["balanced", "training"], typer.Option(help="Shares of the classes that the probabilities assume.")
    ] = "balanced",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images, for cnn.")] = None,
    seed: TrainingSeed = 0,
    json_file: JsonFile = None,
) -> None:
    """Leave out each training patient in turn, and judge it by a model of the others.

    The test patients are not looked at. A patient who is the only one of a class stays in.

    Example: `he-experiments left-out --extractor cnn`
    """
    from experiments.accuracy.left_out import find_patients, judge_left_out
    from he_infer.errors import UsageError
    from he_infer.files import expect_writable, write_json
    from he_infer.terminal import make_console, show_progress
    from models import datasets
    from models.backbone import train_on_backbone
    from models.training.train import Recipe, train

    if extractor != "cnn" and epochs is not None:
        raise UsageError(f"--epochs is the training of the extractor, and {extractor} is kept as it is.")
    expect_writable(json_file)
    console = make_console()
    dataset = datasets.load(data)
    patients = find_patients(dataset)

    def fit(seen: "Dataset") -> "Bundle":
        if extractor == "cnn":
            recipe = Recipe(epochs=epochs, towers=1, prevalence=prevalence)
            return train(seen, head=head, seed=seed, recipe=recipe)
        return train_on_backbone(extractor, seen, size=side, head=head, seed=seed, prevalence=prevalence)

    judged: list[LeftOut] = []
    with show_progress(f"{len(patients)} patients left out", len(patients), console=console) as step:
        for one in judge_left_out(dataset, patients, fit):
            judged.append(one)
            step(len(judged), len(patients))
    _show(console, dataset.name, judged)
    if json_file is not None:
        write_json(json_file, {"dataset": dataset.name, "patients": [vars(one) for one in judged]})


def _show(console: "Console", dataset: str, judged: "list[LeftOut]") -> None:
    from experiments.present.screen_tables import figures_table

    table = figures_table(
        f"{dataset}: each training patient by a model of the others",
        ("patient", "class", "named rightly"),
        ("images", "recall", "pictures right"),
    )
    for one in judged:
        table.add_row(
            str(one.patient),
            one.kind,
            "yes" if one.right else "no",
            str(one.images),
            f"{one.recall:.2f}",
            f"{one.pictures_right} of {one.pictures}",
        )
    console.print(table)
    recall = sum(one.recall for one in judged) / len(judged)
    console.print(
        f"Mean recall {recall:.2f}; {sum(one.right for one in judged)} of {len(judged)} patients and "
        f"{sum(one.pictures_right for one in judged)} of {sum(one.pictures for one in judged)} pictures by the sum of "
        "their images' probabilities.",
        highlight=False,
    )
