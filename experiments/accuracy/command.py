"""`he-experiments accuracy`: accuracy on the whole test set, in clear and under CKKS."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import MOST_SEED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from experiments.accuracy.agreement import Agreement
    from experiments.encrypted import EncryptedRun
    from models.bundle import Bundle
    from models.datasets import Dataset

FIELDS = (
    "dataset",
    "head",
    "n",
    "clear_accuracy",
    "encrypted_accuracy",
    "majority_share",
    "clear_auc",
    "encrypted_auc",
    "label_agreement",
    "max_abs_error",
    "bundle",
)
"""Names that `--json` writes, in order."""


def accuracy(
    data: Annotated[
        str | None,
        typer.Option(
            help="'modality', a MedMNIST set by name, an .npz file in its layout, a folder with one subfolder a class, "
            "or a DICOM folder with a CSV of labels."
        ),
    ] = None,
    *,
    head: Annotated[
        Literal["linear", "mlp", "cubic", "conv"],
        typer.Option(help="The head to train; see 'he-infer train --help'."),
    ] = "mlp",
    bundle_file: Annotated[
        Path | None, typer.Option("--bundle", help="Use this trained bundle; nothing is trained then.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Write the trained bundle here; SET-HEAD-seedN.hebundle in the current folder by default.",
        ),
    ] = None,
    policy: Annotated[Literal["hidden", "open"], typer.Option(help="Whether the server hides its weights.")] = "hidden",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Number of test images, from the first; the table names it.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the training; keys are always fresh.")] = 0,
    json_file: JsonFile = None,
    grid: Annotated[
        Path | None,
        typer.Option(help="Run every combination that this TOML file names, in place of one; see docs/accuracy.md."),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(help="With --grid: append a record of each run here, and leave out those that it holds already."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="With --grid: processes at a time.")] = 1,
) -> None:
    """Compare clear and encrypted accuracy on whole test sets: of one model, or of a grid of them.

    Example: `he-experiments accuracy --data pneumoniamnist --head mlp --json accuracy.json`

    Example: `he-experiments accuracy --grid grid.toml --records accuracy.jsonl --jobs 2`

    A grid may be interrupted with Ctrl-C; the same command then goes on where it was.
    """
    if grid is not None:
        _grid(grid, records, jobs, data)
        return
    if data is None:
        raise typer.BadParameter("name a data set, or a grid file with --grid", param_hint="--data")
    from experiments import encrypted
    from experiments.accuracy.agreement import compare_scores
    from experiments.bundles import load_or_train, load_set
    from experiments.records.finish import refuse_missing_folders
    from he_infer.files import write_json
    from he_infer.terminal import make_console, show_progress
    from models.heads.ranges import share_outside
    from models.heads.trainable import RANGE
    from models.metrics import compute_majority_share

    refuse_missing_folders(keep=keep, json=json_file)
    console = make_console()
    dataset = load_set(data, bundle_file)
    for note in dataset.notes:
        console.print(f"note: {note}", style="yellow", markup=False, highlight=False)
    if bundle_file is None:
        keep = keep or _name_bundle(dataset, head, seed)
    bundle = load_or_train(console, dataset, bundle_file, head=head, policy=policy, epochs=epochs, seed=seed, keep=keep)
    test = dataset.test if limit is None else dataset.test.first(limit)
    features = bundle.features(test.images)
    with show_progress("Encrypted test images", len(features), console=console) as step:
        found = encrypted.evaluate_bundle(bundle, features, lambda done, _: step(done))
    clear = bundle.scores(features)
    result = compare_scores(test.labels, clear, found.scores)
    kind = "linear" if len(bundle.head.layers) == 1 else str(bundle.training.get("head", head))
    _show(console, dataset, bundle, result, found, limit, compute_majority_share(test.labels))
    _show_more(console, dataset, test.labels, clear, found, share_outside(bundle.head, features, RANGE))
    if json_file is not None:
        values = {
            "dataset": dataset.name,
            "head": kind,
            **{name: getattr(result, name) for name in FIELDS if hasattr(result, name)},
            "majority_share": compute_majority_share(test.labels),
            "bundle": str(bundle_file or keep),
        }
        write_json(json_file, {name: _to_json(values[name]) for name in FIELDS})


def _grid(grid: Path, records: Path | None, jobs: int, data: str | None) -> None:
    from experiments.accuracy.grid import load_grid
    from experiments.accuracy.grid_run import run_grid
    from he_infer.terminal import make_console

    if data is not None:
        raise typer.BadParameter("a grid file names its data sets; leave --data out", param_hint="--data")
    if records is None:
        raise typer.BadParameter("a grid needs a file for its records (.jsonl)", param_hint="--records")
    if not records.resolve().parent.is_dir():
        raise typer.BadParameter(f"the folder {records.resolve().parent} does not exist", param_hint="--records")
    console = make_console()
    outcome = run_grid(load_grid(grid), records, grid=grid, jobs=jobs, console=console)
    kept = f"{outcome.done} runs recorded in {records}, {outcome.before} were there before."
    console.print(kept, highlight=False, markup=False, soft_wrap=True)
    for line in outcome.failed:
        console.print(f"missed: {line}", style="red", highlight=False, markup=False, soft_wrap=True)
    if outcome.interrupted:
        console.print("Interrupted. The same command goes on from here.", highlight=False)
        raise typer.Exit(130)
    if outcome.failed:
        raise typer.Exit(1)


def _name_bundle(dataset: "Dataset", head: str, seed: int) -> Path:
    """A name in the current folder that no file has yet."""
    stem = f"{dataset.name}-{head}-seed{seed}"
    names = (f"{stem}.hebundle", *(f"{stem}-{number}.hebundle" for number in range(2, 10_000)))
    return next(path for name in names if not (path := Path(name)).exists())


def _show(
    console: "Console",
    dataset: "Dataset",
    bundle: "Bundle",
    result: "Agreement",
    found: "EncryptedRun",
    limit: int | None,
    majority: float,
) -> None:
    import numpy as np
    from rich.table import Table

    images = (
        f"{result.n} test images" if limit is None else f"only the first {result.n} of {len(dataset.test)} test images"
    )
    table = Table(title=f"{dataset.name}, {bundle.name}, {images}", title_justify="left")
    table.add_column("")
    for heading in ("clear", "encrypted"):
        table.add_column(heading, justify="right")
    table.add_row("accuracy", f"{result.clear_accuracy:.4f}", f"{result.encrypted_accuracy:.4f}")
    table.add_row("always the largest class", f"{majority:.4f}", f"{majority:.4f}")
    table.add_row("AUC", f"{result.clear_auc:.4f}", f"{result.encrypted_auc:.4f}")
    table.add_section()
    table.add_row("label agreement", "", f"{result.label_agreement:.4%}")
    table.add_row("largest score error", "", f"{result.max_abs_error:.2e}")
    table.add_row("labels changed beyond the error", "", str(result.flips_beyond_error))
    table.add_row("McNemar p, clear against encrypted", "", f"{result.mcnemar_p:.3f}")
    table.add_section()
    table.add_row("evaluation, median ms", "", f"{float(np.median(found.evaluate_ms)):.1f}")
    table.add_row("request / answer, KB", "", f"{found.bytes_up / 1e3:.0f} / {found.bytes_down / 1e3:.0f}")
    table.add_row("evaluation keys, MB", "", f"{found.evaluation_key_bytes / 1e6:.1f}")
    console.print(table)


def _show_more(
    console: "Console",
    dataset: "Dataset",
    labels: "NDArray[np.int64]",
    clear: "NDArray[np.float64]",
    found: "EncryptedRun",
    outside: float,
) -> None:
    from rich.table import Table

    from experiments.accuracy.evaluation import compare_with_clear, compute_clear_figures

    plain, other = compute_clear_figures(labels, clear), compare_with_clear(labels, clear, found.scores)
    table = Table(title="95 % intervals by bootstrap over the test images", title_justify="left")
    table.add_column("")
    for heading in ("clear", "encrypted"):
        table.add_column(heading, justify="right")
    for title, name in (("accuracy", "accuracy_interval"), ("AUC", "auc_interval")):
        table.add_row(title, *(f"{one[name][0]:.3f} to {one[name][1]:.3f}" for one in (plain, other)))
    table.add_section()
    table.add_row("balanced accuracy", *(f"{one['balanced_accuracy']:.4f}" for one in (plain, other)))
    for label, name in enumerate(dataset.classes):
        table.add_row(f"recall of {name}", *(f"{one['recall'][label]:.4f}" for one in (plain, other)))
    table.add_row("calibration error (ECE)", *(f"{one['ece']:.4f}" for one in (plain, other)))
    table.add_section()
    for name, value in other["score_error"].items():
        table.add_row(f"score error, {name}", "", f"{value:.2e}")
    table.add_row("images beyond the activation's range", f"{outside:.2%}", "")
    console.print(table)


def _to_json(value: object) -> object:
    """A value fit for JSON, which knows no NaN."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 9)
    return value
