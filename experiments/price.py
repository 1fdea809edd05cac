"""`he-experiments price`: accuracy, latency, CPU, bytes and keys of each path to the same scores."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.outcome import DataSet, FigureFile, JsonFile, RecordFile, TrainingSeed

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.price_paths import Row
    from models.bundle import Bundle
    from models.datasets import Dataset
    from models.heads import Head


def price(
    data: DataSet,
    *,
    bundle_file: Annotated[
        Path | None, typer.Option("--bundle", help="Its extractor and head; without it one is trained.")
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="Test images for every path: TenSEAL takes seconds for each.")] = 30,
    concrete_python: Annotated[
        Path | None, typer.Option(help="A Python interpreter with concrete-ml; without it that path is left out.")
    ] = None,
    seed: TrainingSeed = 0,
    figure: FigureFile = None,
    json_file: JsonFile = None,
    record: RecordFile = None,
) -> None:
    """Classify the same images with the same heads in clear, encrypted here, and through TenSEAL's own vectors.

    Times are from features to scores with both sides in one process and bytes in between, without a network.

    Example: `he-experiments price --data pneumoniamnist --bundle chest.hebundle --figure price.png`
    """
    from rich.console import Console

    from experiments import charts, price_paths
    from experiments.outcome import command_line, finish, refuse_missing_folders
    from experiments.progress import bar
    from experiments.records import Record
    from experiments.victims import bundle_for
    from models import datasets

    refuse_missing_folders(figure=figure, json=json_file, record=record)
    console = Console()
    dataset = datasets.load(data)
    bundle = bundle_for(console, dataset, bundle_file, seed=seed)
    test = dataset.test.first(limit)
    features = bundle.features(test.images)
    rows: list[Row] = []
    for name, head in _heads(bundle, dataset, seed).items():
        rows.append(price_paths.in_clear(name, head, features, test.labels))
        for policy in ("hidden", "open"):
            with bar(console, f"{name}, encrypted, {policy}", len(features)) as step:
                rows.append(
                    price_paths.encrypted_here(
                        name, head, features, test.labels, policy=policy, bound=bundle.input_bound, step=step
                    )
                )
        with bar(console, f"{name}, TenSEAL", len(features)) as step:
            rows.append(price_paths.through_tenseal(name, head, features, test.labels, step))
    if concrete_python is not None:
        known = bundle.features(dataset.train.images)
        rows.append(price_paths.through_concrete(concrete_python, known, dataset.train, features, test.labels))
    rows = _with_ratios(rows)
    _show(console, dataset, rows, limit)
    if concrete_python is None:
        console.print(
            "Concrete ML was left out: it pins its own torch, so it needs an environment of its own; name its "
            "interpreter with --concrete-python.",
            highlight=False,
        )
    parameters = {
        "dataset": dataset.name,
        "digest": dataset.digest,
        "bundle": bundle.name,
        "width": bundle.head.width,
        "limit": limit,
        "concrete": concrete_python is not None,
    }
    command = command_line(
        "price", data=data, bundle=bundle_file, limit=limit, concrete_python=concrete_python, seed=seed, figure=figure
    )
    figures = {"rows": [asdict(row) for row in rows]}
    drawn = None
    if figure is not None:
        drawn = charts.price([Record.of("price", command=command, seed=seed, parameters=parameters, figures=figures)])
    finish(
        console,
        "price",
        command=command,
        seed=seed,
        parameters=parameters,
        figures=figures,
        drawn=drawn,
        figure=figure,
        json=json_file,
        record=record,
    )


def _heads(bundle: "Bundle", dataset: "Dataset", seed: int) -> "dict[str, Head]":
    """The bundle's own head, and a linear one on the same features where the bundle's is another."""
    from models.head_training import train_head

    kind = str(bundle.training.get("head", "own"))
    heads = {kind: bundle.head}
    if len(bundle.head.layers) > 1:
        trained = train_head(
            bundle.features(dataset.train.images),
            dataset.train.labels,
            bundle.features(dataset.val.images),
            dataset.val.labels,
            classes=len(dataset.classes),
            kind="linear",
            seed=seed,
        )
        if trained.head is not None:
            heads = {"linear": trained.head, **heads}
    return heads


def _with_ratios(rows: "list[Row]") -> "list[Row]":
    """Each row with its wall time as a share of TenSEAL's for the same head in the same run."""
    baseline = {row.head: row.wall_ms for row in rows if row.path.startswith("TenSEAL")}
    return [replace(row, ratio=row.wall_ms / baseline[row.head] if row.head in baseline else None) for row in rows]


def _show(console: "Console", dataset: "Dataset", rows: "list[Row]", limit: int) -> None:
    from experiments.figures_table import grouped_table

    count = min(limit, len(dataset.test))
    which = "all" if count == len(dataset.test) else "only the first"
    title = f"{dataset.name}: {which} {count} of {len(dataset.test)} test images, one at a time"
    figures = ("accu-\nracy", "wall\nms", "against\nTenSEAL", "CPU\nms", "KB\nup", "KB\ndown", "keys\nMB", "error")
    cells = [
        (
            row.head,
            (
                row.path,
                f"{row.accuracy:.3f}",
                _short(row.wall_ms),
                "" if row.ratio is None or not row.bytes_up else f"{1 / row.ratio:.3g} x",
                _short(row.cpu_ms),
                f"{row.bytes_up / 1e3:.0f}",
                f"{row.bytes_down / 1e3:.0f}",
                f"{row.key_bytes / 1e6:.1f}",
                "" if row.largest_error is None else f"{row.largest_error:.0e}",
            ),
        )
        for row in rows
    ]
    console.print(grouped_table(title, "path", figures, cells, padding=(0, 1, 0, 0)))
    console.print("Against TenSEAL: how many times faster than TenSEAL's vectors on the same head.", highlight=False)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value >= 0.01 else f"{value:.3f}"
