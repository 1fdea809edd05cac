"""`he-infer demo`: classifies real images encrypted, from files to report."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import MOST_SEED
from he_infer.terminal import PlainTable, make_console


def demo(
    data: Annotated[
        str,
        typer.Option(
            metavar="NAME-or-FILE",
            help="'modality' (DICOM images that come with packages), a MedMNIST set by name, an .npz file in its "
            "layout, a folder with one subfolder a class, or a DICOM folder with a CSV of labels.",
        ),
    ] = "modality",
    *,
    out: Annotated[Path, typer.Option(help="Folder for everything the run makes; a later run empties it.")] = Path(
        "he-infer-demo"
    ),
    head: Annotated[
        Literal["linear", "mlp", "cubic", "conv"],
        typer.Option(help="Head that the server evaluates encrypted; see 'he-infer train --help'."),
    ] = "mlp",
    extractor: Annotated[
        Literal["cnn", "efficientnet-lite0"] | None,
        typer.Option(
            help="cnn: a small network, trained with the head. efficientnet-lite0: ImageNet weights, which stay; "
            "only the head is trained (extra 'backbone').",
            show_default="efficientnet-lite0 for 'modality', cnn for other images",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the training. Keys are always new.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Classify only the first N test images.")] = None,
    recording: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what the terminal shows as a picture, SVG.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Store real images encrypted, train, start a server, classify encrypted, and report.

    Example: `he-infer demo --data pneumoniamnist --json figures.json`
    """
    from he_infer.demo.main_job import run_demo
    from he_infer.demo.options import DemoOptions
    from he_infer.demo.recording import RecordingConsole
    from he_infer.demo.report import format_figures
    from he_infer.files import expect_writable, write_json

    expect_writable(recording, json_file)
    console = make_console() if recording is None else RecordingConsole()
    outcome = run_demo(DemoOptions(data, out, seed, epochs, limit, head, extractor), console)
    table = PlainTable(
        title=f"{outcome.figures.dataset}: {outcome.figures.n_test} test images, clear against encrypted"
    )
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("meaning", style="dim")
    for row in format_figures(outcome.figures):
        table.add_row(row.name, row.value, row.meaning)
    console.print(table)
    console.print(f"Report with pictures: {outcome.report}", markup=False, highlight=False, soft_wrap=True)
    if isinstance(console, RecordingConsole) and recording is not None:
        console.save(recording, "he-infer demo")
    if json_file is not None:
        write_json(json_file, outcome.figures.as_dict())
