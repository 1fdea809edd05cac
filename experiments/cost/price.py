"""`he-experiments price`: accuracy, latency, CPU, bytes and keys of each path to the same scores."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.records.finish import DataSet, FigureFile, RecordFile, TrainingSeed
from he_infer.commands.json_option import JsonFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from experiments.cost.price_paths import PriceRow
    from he_infer.head.layers import Head
    from models.bundle import Bundle
    from models.datasets import Dataset


def price(
    data: DataSet,
    *,
    bundle_file: Annotated[
        Path | None, typer.Option("--bundle", help="Bundle with extractor and head; without it one is trained.")
    ] = None,
    heads: Annotated[
        list[str] | None,
        typer.Option("--head", help="One of `accuracy`'s heads, several times for several, or 'all'."),
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="Test images in clear and encrypted here.")] = 30,
    peer_limit: Annotated[
        int,
        typer.Option(min=2, help="Test images for TenSEAL and Concrete ML, which take up to half a minute for each."),
    ] = 6,
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

    Without `--head`: the bundle's own and a logistic regression on its features.

    Example: `he-experiments price --data pneumoniamnist --bundle chest.hebundle --head all --figure price.png`
    """
    from experiments.bundles import load_or_train, load_set
    from experiments.cost.price_chart import draw_price
    from experiments.records.finish import format_command, refuse_missing_folders, write_outcome
    from he_infer.terminal import make_console

    refuse_missing_folders(figure=figure, json=json_file, record=record)
    names = _names(heads)
    console = make_console()
    dataset = load_set(data, bundle_file)
    bundle = load_or_train(console, dataset, bundle_file, seed=seed)
    paths = _Paths(console, dataset, bundle, limit, peer_limit)
    rows = [row for name in names for row in paths.of(name, seed)]
    if concrete_python is not None:
        rows.append(paths.concrete(concrete_python))
    rows = _with_ratios(rows)
    _show(console, dataset, rows)
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
        "heads": names,
        "limit": limit,
        "peer_limit": peer_limit,
        "concrete": concrete_python is not None,
    }
    command = format_command(
        "price",
        data=data,
        bundle=bundle_file,
        head=heads,
        limit=limit,
        peer_limit=peer_limit,
        concrete_python=None if concrete_python is None else "PYTHON",
        seed=seed,
        figure=figure,
    )
    figures = {"rows": [asdict(row) for row in rows]}
    drawn = None
    if figure is not None:
        drawn = draw_price([(dataset.name, asdict(row)) for row in rows])
    write_outcome(
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


def _names(asked: list[str] | None) -> list[str]:
    """The heads asked for, by their names in `accuracy`.

    Raises:
        ExperimentError: an unknown name.
    """
    from experiments.accuracy.grid import CANDIDATES
    from experiments.errors import ExperimentError

    if asked is None:
        return ["logistic", "deployed"]
    unknown = [name for name in asked if name not in (*CANDIDATES, "all")]
    if unknown:
        raise ExperimentError(f"There is no head '{unknown[0]}'. Expected one of {', '.join(CANDIDATES)}, or all.")
    return list(CANDIDATES) if "all" in asked else list(dict.fromkeys(asked))


class _Paths:
    """Sends the same images through every path."""

    def __init__(self, console: "Console", dataset: "Dataset", bundle: "Bundle", limit: int, peer_limit: int) -> None:
        from experiments.accuracy.candidates import SplitFeatures

        self._console, self._dataset, self._bundle = console, dataset, bundle
        self._known = SplitFeatures(
            bundle.features(dataset.train.images),
            dataset.train.labels,
            bundle.features(dataset.val.images),
            dataset.val.labels,
            len(dataset.classes),
        )
        test = dataset.test.first(max(limit, peer_limit))
        self._features, self._labels = bundle.features(test.images), test.labels
        self._limit, self._peer_limit = limit, peer_limit

    def of(self, name: str, seed: int) -> "list[PriceRow]":
        """Fit a head and send the images through all paths that carry it."""
        from experiments.accuracy import candidates
        from experiments.cost import price_paths, tenseal_peer
        from he_infer.errors import HeInferError
        from he_infer.terminal import show_progress

        fitted = candidates.fit_head(name, self._known, deployed=self._bundle.head, seed=seed)
        features, labels = self._features[: self._limit], self._labels[: self._limit]
        rows = [price_paths.classify_in_clear(name, fitted.scores, features, labels)]
        head = fitted.head
        if head is None:
            return rows
        try:
            rows += self._encrypted(name, head, features, labels)
        except HeInferError as error:
            self._console.print(f"{name} stays in the clear: {error}", highlight=False, soft_wrap=True)
        if tenseal_peer.supports_head(head):
            few, known = self._features[: self._peer_limit], self._labels[: self._peer_limit]
            with show_progress(f"{name}, TenSEAL", len(few), console=self._console) as step:
                rows.append(price_paths.classify_with_tenseal(name, head, few, known, step))
        return rows

    def _encrypted(
        self, name: str, head: "Head", features: "NDArray[np.floating]", labels: "NDArray[np.int64]"
    ) -> "list[PriceRow]":
        from experiments.cost import price_paths
        from he_infer.terminal import show_progress

        rows = []
        for policy in ("hidden", "open"):
            with show_progress(f"{name}, encrypted, {policy}", len(features), console=self._console) as step:
                rows.append(
                    price_paths.classify_encrypted(
                        name, head, features, labels, policy=policy, bound=self._bundle.input_bound, step=step
                    )
                )
        return rows

    def concrete(self, python: Path) -> "PriceRow":
        """Concrete ML's own logistic regression."""
        from experiments.cost import price_paths

        few, labels = self._features[: self._peer_limit], self._labels[: self._peer_limit]
        self._console.print("Concrete ML: fitting, compiling and running its own logistic regression.", highlight=False)
        return price_paths.classify_with_concrete(python, self._known.train, self._dataset.train, few, labels)


def _with_ratios(rows: "list[PriceRow]") -> "list[PriceRow]":
    """Each row with its wall time as a share of TenSEAL's for the same head in the same run."""
    baseline = {row.head: row.wall_ms for row in rows if row.path.startswith("TenSEAL")}
    return [replace(row, ratio=row.wall_ms / baseline[row.head] if row.head in baseline else None) for row in rows]


_PATHS = {
    "encrypted here, hidden": "here, hidden",
    "encrypted here, open": "here, open",
    "TenSEAL's vectors": "TenSEAL",
}
"""Shorter names, for a screen of 80 columns."""


def _show(console: "Console", dataset: "Dataset", rows: "list[PriceRow]") -> None:
    from experiments.present.screen_tables import format_short, grouped_table

    title = f"{dataset.name}: the first test images of {len(dataset.test)}, one at a time"
    figures = ("accu-\nracy", "wall\nms", "TenSEAL\ntakes", "CPU\nms", "KB up\n+down", "keys\nKB", "error")
    cells = [
        (
            row.head,
            (
                f"{_PATHS.get(row.path, row.path)} ({row.images})",
                f"{row.accuracy:.3f}",
                format_short(row.wall_ms),
                "" if row.ratio is None or not row.bytes_up else f"{1 / row.ratio:.0f} x",
                format_short(row.cpu_ms),
                f"{row.bytes_up / 1e3:.0f}+{row.bytes_down / 1e3:.0f}" if row.bytes_up else "",
                f"{math.ceil(row.key_bytes / 1e3):,}" if row.key_bytes else "",
                f"{row.largest_error:.0e}" if row.largest_error else "",
            ),
        )
        for row in rows
    ]
    console.print(grouped_table(title, "path (images)", figures, cells, padding=(0, 1, 0, 0)))
    console.print(
        "TenSEAL takes: how many times as long on the wall for the same head. KB an image, keys once.", highlight=False
    )
