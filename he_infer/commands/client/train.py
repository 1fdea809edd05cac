"""`he-infer train`: trains a model on a data set and writes a bundle."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from he_infer.commands.client.card_option import CardFile, read_card
from he_infer.commands.client.prevalence_option import PrevalenceShares
from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import MOST_SEED

if TYPE_CHECKING:
    from rich.console import Console

    from models.bundle import Bundle
    from models.datasets import Dataset
    from models.training.train import Recipe


def train(
    *,
    data: Annotated[
        str,
        typer.Option(
            help="'modality' (DICOM images that come with packages), a MedMNIST set by name, an .npz file in its "
            "layout, a folder with one subfolder a class, or a DICOM folder with a CSV of labels."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The bundle file to write (.hebundle).")],
    head: Annotated[
        Literal["linear", "mlp", "cubic", "conv"],
        typer.Option(
            help="linear; mlp: one hidden layer with x²; cubic: one hidden layer with a learned cubic; conv: the "
            "network's last block (convolution, x², average pool)."
        ),
    ] = "mlp",
    width: Annotated[
        int | None,
        typer.Option(min=16, max=4096, help="Length of the feature vector; 512, or 1024 with conv (8 x 8 x 16 maps)."),
    ] = None,
    hidden: Annotated[
        int | None,
        typer.Option(min=2, max=4096, help="Size of the hidden layer, 64; with conv its channels, as many as come in."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_SEED, help="Seed of the weights, the order, the augmentation and the splits of folders."
        ),
    ] = 0,
    policy: Annotated[
        Literal["hidden", "open"],
        typer.Option(help="hidden: clients do not learn the head's weights. open: faster, but clients may learn them."),
    ] = "hidden",
    name: Annotated[str | None, typer.Option(help="The bundle's name.")] = None,
    prevalence: PrevalenceShares = "training",
    intended_use: Annotated[str | None, typer.Option(help="A sentence for the model card.")] = None,
    licence: Annotated[str | None, typer.Option(help="The model's licence, for the model card.")] = None,
    card_file: CardFile = None,
    side: Annotated[
        int | None,
        typer.Option(
            min=28,
            max=224,
            help="Images are cut to their central square and resized to this side length, pixels.",
            show_default="64; 224 with a pretrained extractor",
        ),
    ] = None,
    ordinal: Annotated[
        bool, typer.Option("--ordinal", help="The classes are grades in the order of their names: 0 none, 1 mild, ...")
    ] = False,
    extractor: Annotated[
        Literal["cnn", "efficientnet-lite0"],
        typer.Option(
            help="cnn: a small network, trained with the head. efficientnet-lite0: ImageNet weights, which "
            "stay; only the head is trained (extra 'backbone')."
        ),
    ] = "cnn",
    json_file: JsonFile = None,
) -> None:
    """Train extractor and head on a data set and write them to one bundle.

    Example: `he-infer train --data pneumoniamnist --out chest.hebundle`
    """
    from he_infer.errors import UsageError
    from he_infer.files import expect_writable, write_json
    from he_infer.terminal import make_console, show_progress
    from models import datasets
    from models.card import ORDINAL, decide, describe_figures
    from models.card_file import merge_card
    from models.heads.prevalence import Prevalence
    from models.metrics import compute_majority_share, figures, softmax
    from models.training.train import Recipe

    expect_writable(out, json_file)
    console = make_console()
    if extractor != "cnn" and (head == "conv" or width is not None or epochs is not None):
        raise UsageError(f"--width, --epochs and --head conv train the extractor, and {extractor} is kept as it is.")
    side = side or (64 if extractor == "cnn" else 224)
    # A given network takes one size, and files are resized once, as at use.
    dataset = datasets.load(data, seed=seed, side=side, size=None if extractor == "cnn" else side)
    if ordinal:
        dataset = replace(dataset, task=ORDINAL)
    stated = read_card(card_file, dataset.classes)
    Prevalence.read(prevalence, dataset.classes)  # refused before the training
    height, breadth = dataset.size
    console.print(
        f"{dataset.name}: {len(dataset.train)} training, {len(dataset.val)} validation and {len(dataset.test)} test "
        f"images of {height} x {breadth}, {'grey' if dataset.channels == 1 else 'colour'}; classes: "
        f"{', '.join(dataset.classes)}",
        markup=False,
        highlight=False,
    )
    for note in dataset.notes:
        make_console(stderr=True).print(f"note: {note}", style="yellow", markup=False, highlight=False)
    began = time.perf_counter()
    if extractor == "cnn":
        recipe = Recipe(epochs=epochs, largest_side=side, prevalence=prevalence).suited_to(dataset)
        bundle = _fit_cnn(
            dataset, recipe, console, head=head, width=width, hidden=hidden, seed=seed, policy=policy, name=name
        )
        passes = f"Epoch {bundle.chosen_epochs} of {recipe.epochs} chosen on validation"
    else:
        from models.backbone import train_on_backbone

        total = len(dataset.train) + len(dataset.val)
        with show_progress("Extracting features", total, console=console) as progress:
            bundle = train_on_backbone(
                extractor,
                dataset,
                size=side,
                head=head,
                hidden=hidden or 64,
                seed=seed,
                prevalence=prevalence,
                policy=policy,
                name=name,
                progress=lambda done, total: progress(done, total),
            )
        passes = f"Head trained on {bundle.head.width} features of {extractor}"
    seconds = time.perf_counter() - began
    bundle.save(out)
    validation = bundle.training["validation"]
    card = {
        **merge_card(bundle.card, stated),
        **({"intended_use": intended_use} if intended_use else {}),
        **({"licence": licence} if licence else {}),
    }
    majority = compute_majority_share(dataset.test.labels)
    scores = bundle.scores(bundle.features(dataset.test.images))
    tested, decided = figures(dataset.test.labels, scores), decide(bundle.card, dataset.classes, softmax(scores))
    described = describe_figures(dataset.test.labels, tested, decided)
    # Saved a second time: the first save keeps the training if the test images cannot be evaluated.
    replace(bundle, card={**card, "test": described}).save(out)
    console.print(
        f"{passes} (validation accuracy {validation['accuracy']:.4f}). Test, in clear: accuracy "
        f"{tested.accuracy:.4f} (always the largest class: "
        f"{majority:.4f}), AUC {tested.auc:.4f}; by the model card's decision {described['decided_accuracy']:.4f}.",
        highlight=False,
    )
    console.print(
        f"Wrote {out} ({out.stat().st_size / 1e6:.1f} MB) after {seconds:.0f} s of training.", highlight=False
    )
    if json_file is not None:
        write_json(
            json_file,
            {
                "dataset": dataset.name,
                "head": head,
                "width": bundle.head.width,
                "seed": seed,
                "extractor": extractor,
                "epochs": bundle.training.get("recipe", {}).get("epochs"),
                "chosen_epoch": bundle.training.get("chosen_epoch"),
                "val_accuracy": validation["accuracy"],
                "n_test": tested.n,
                "clear_accuracy": round(tested.accuracy, 6),
                "majority_share": round(majority, 6),
                "clear_auc": None if tested.auc != tested.auc else round(tested.auc, 6),
                "train_seconds": round(seconds, 2),
                "bundle": str(out),
            },
        )


def _fit_cnn(dataset: "Dataset", recipe: "Recipe", console: "Console", **options: Any) -> "Bundle":
    """Train the small network with a progress bar; the time is foretold after the first pass."""
    from he_infer.terminal import show_progress
    from models.training.train import Epoch, train

    networks = recipe.towers_for(dataset, options["head"], options["width"] or 512, options["hidden"])
    seen = min(recipe.largest_side, *dataset.size)
    console.print(
        f"The network sees {seen} x {seen} pixels. Training: {networks} network(s), {recipe.epochs} passes each.",
        highlight=False,
    )
    with show_progress("Training", recipe.epochs, console=console) as progress:

        def show(epoch: Epoch) -> None:
            if epoch.number == 1:
                # Printed at once, also if no terminal shows the progress bar.
                console.print(f"Training takes about {_describe_seconds(epoch.seconds * epoch.of)}.", highlight=False)
            progress(epoch.number, epoch.of, f"Training (validation accuracy {epoch.val_accuracy:.3f})")

        return train(dataset, recipe=recipe, progress=show, **options)


def _describe_seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
