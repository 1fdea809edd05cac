"""`he-infer import`: makes a bundle of a user's ONNX extractor and a head."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from he_infer.commands.client.card_option import CardFile, read_card
from he_infer.commands.client.prevalence_option import PrevalenceShares
from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import MOST_SEED


def import_model(
    extractor: Annotated[Path, typer.Argument(help="ONNX file: one float32 image tensor in, one feature vector out.")],
    *,
    data: Annotated[str, typer.Option(help="Images to calibrate on; as for 'he-infer train'.")],
    out: Annotated[Path, typer.Option(help="The bundle file to write (.hebundle).")],
    head: Annotated[
        str,
        typer.Option(
            help="linear, mlp or cubic: trained on the features. Or an ONNX head fitted on a bundle's features."
        ),
    ] = "mlp",
    mean: Annotated[
        str | None,
        typer.Option(help="Mean that the network expects to be subtracted, for pixels in 0 to 1: 0.485,0.456,0.406."),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(help="Standard deviation that the network expects pixels to be divided by: 0.229,0.224,0.225."),
    ] = None,
    normalisation: Annotated[
        Path | None,
        typer.Option(help="TOML file with mean, std, white (1 or 255) and layout, in place of the three options."),
    ] = None,
    layout: Annotated[
        Literal["NCHW", "NHWC"] | None,
        typer.Option(help="Order of the input tensor's dimensions.", show_default="from the shape"),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of the head's training and of the splits of folders.")
    ] = 0,
    policy: Annotated[Literal["hidden", "open"], typer.Option(help="As for 'he-infer train'.")] = "hidden",
    prevalence: PrevalenceShares = "training",
    name: Annotated[str | None, typer.Option(help="The bundle's name.")] = None,
    card_file: CardFile = None,
    json_file: JsonFile = None,
) -> None:
    """Make a bundle of your own ONNX extractor: its features are measured, standardised and bounded on your images.

    The file is checked before it runs: operators of ONNX's own set, no loops, no external data, bounded size. A joblib
    or pickle file is code and is refused.

    Example: `he-infer import resnet18.onnx --data scans/ --out own.hebundle --mean 0.485,0.456,0.406
    --std 0.229,0.224,0.225`
    """
    from he_infer.errors import UsageError
    from he_infer.files import expect_writable, write_json
    from he_infer.terminal import make_console, show_progress
    from models import datasets
    from models.card import decide, describe_figures
    from models.card_file import merge_card
    from models.importing import TRAINED, Normalisation, find_size
    from models.importing import import_model as make_bundle
    from models.metrics import compute_majority_share, figures, softmax

    expect_writable(out, json_file)
    if (mean is None) != (std is None):
        raise UsageError("Give both --mean and --std, or neither: then they are measured on the training images.")
    if normalisation is not None and (mean is not None or layout is not None):
        raise UsageError("Give --normalisation, or --mean, --std and --layout, not both.")
    if head not in TRAINED and prevalence != "training":
        raise UsageError("--prevalence applies to a trained head; the scores of an ONNX head stay as they are.")
    given = None if mean is None or std is None else Normalisation(_numbers("--mean", mean), _numbers("--std", std))
    if normalisation is not None:
        given, layout = Normalisation.load(normalisation)
    kind = head if head in TRAINED else Path(head).read_bytes()
    content = extractor.read_bytes()
    # Files of folders are resized once, as at use: straight to the network's size.
    dataset = datasets.load(data, seed=seed, size=find_size(content, layout))
    stated = read_card(card_file, dataset.classes)
    console = make_console()
    total = len(dataset.train) + len(dataset.val)
    with _catch_notes() as notes, show_progress("Extracting features", total, console=console) as progress:
        bundle = make_bundle(
            content,
            dataset,
            normalisation=given,
            layout=layout,
            head=kind,
            seed=seed,
            prevalence=prevalence,
            policy=policy,
            name=name,
            progress=lambda done, total: progress(done, total),
        )
    scores = bundle.scores(bundle.features(dataset.test.images))
    tested = figures(dataset.test.labels, scores)
    described = describe_figures(dataset.test.labels, tested, decide(bundle.card, dataset.classes, softmax(scores)))
    bundle = bundle.with_card({**merge_card(bundle.card, stated), "test": described})
    bundle.save(out)
    for note in notes:
        make_console(stderr=True).print(f"note: {note}", style="yellow", markup=False, highlight=False)
    console.print(
        f"{bundle.head.width} features an image. Test, in clear: accuracy {tested.accuracy:.4f} (always the largest "
        f"class: {compute_majority_share(dataset.test.labels):.4f}), AUC {tested.auc:.4f}. Wrote {out}.",
        highlight=False,
        markup=False,
    )
    if json_file is not None:
        write_json(json_file, {"bundle": str(out), "width": bundle.head.width, "test": described})


@contextmanager
def _catch_notes() -> Iterator[list[str]]:
    """Collect what the user must know of a conversion, to be printed at the end."""
    from models.errors import ProbabilitiesDiffer

    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ProbabilitiesDiffer)
        yield notes
        notes += [str(one.message) for one in caught]


def _numbers(option: str, text: str) -> tuple[float, ...]:
    from he_infer.errors import UsageError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}; expected numbers with commas between, one a channel.") from error
