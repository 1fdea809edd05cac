"""`he-experiments tail`: compares three split points between the client's and the server's part of the network.

`linear` and `mlp` leave every convolution to the client. `conv` moves the split one block to the left: the last
convolution, its activation and its average pool run encrypted as well. Each is trained for its own split, so that none
is held back by another's.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.records.finish import DataSet, FigureFile, RecordFile, TrainingSeed
from he_infer.commands.json_option import JsonFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from experiments.cost.tail_sizes import SizeRow
    from experiments.present.drawing import Picture
    from models.bundle import Bundle
    from models.datasets import Dataset

SPLITS = ("linear", "mlp", "conv")


@dataclass(frozen=True)
class TailRow:
    """A split point of the network, and its figures."""

    split: str
    server: str
    """The layers that run encrypted."""
    width: int
    """Features that are encrypted."""
    client_products: int
    """Multiplications of an image's forward pass at the client, in clear."""
    server_products: int
    """Multiplications of the encrypted part, as it would take them in clear; a convolution's zeros not counted."""
    plan: str
    """Ring size and modulus chain."""
    key_switches: int
    n_clear: int
    """Test images, all of them."""
    clear_accuracy: float
    accuracy_low: float
    accuracy_high: float
    """95 % interval of the clear accuracy (bootstrap over the test images)."""
    clear_auc: float
    n: int
    """Test images classified encrypted."""
    clear_accuracy_of_n: float
    encrypted_accuracy: float
    label_agreement: float
    max_abs_error: float
    server_ms: float
    """Median time to parse, compute and save."""
    server_ms_low: float
    server_ms_high: float
    """Quartiles."""
    bytes_up: int
    bytes_down: int
    evaluation_key_bytes: int


def tail(
    data: DataSet = "pneumoniamnist",
    *,
    bundle_files: Annotated[
        list[Path] | None,
        typer.Option("--bundle", help="Compare these trained bundles, one a split; repeat. Nothing is trained then."),
    ] = None,
    policy: Annotated[str, typer.Option(help="hidden or open, for bundles that are trained here.")] = "hidden",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Number of test images to encrypt, from the first.")] = None,
    sizes: Annotated[
        int, typer.Option(min=0, metavar="IMAGES", help="Images for untrained convolutions of other sizes; 0: none.")
    ] = 0,
    seed: TrainingSeed = 0,
    figure: FigureFile = None,
    json_file: JsonFile = None,
    record: RecordFile = None,
) -> None:
    """Compare split points: accuracy, server time, bytes and keys with and without an encrypted convolution block.

    Example: `he-experiments tail --data pneumoniamnist --figure tail.png --json tail.json`
    """
    from experiments.bundles import load_or_train, load_set
    from experiments.cost.tail_sizes import SIZES
    from experiments.cost.tail_sizes import measure_sizes as measure_sizes
    from experiments.records.finish import format_command, refuse_missing_folders, write_outcome
    from he_infer.terminal import make_console, show_progress

    refuse_missing_folders(figure=figure, json=json_file, record=record)
    console = make_console()
    dataset = load_set(data, bundle_files[0] if bundle_files else None)
    if bundle_files:
        bundles = [load_or_train(console, dataset, path) for path in bundle_files]
    else:
        bundles = [
            load_or_train(console, dataset, None, head=split, policy=policy, epochs=epochs, seed=seed)
            for split in SPLITS
        ]
    rows = [measure_tail(console, dataset, bundle, limit) for bundle in bundles]
    _show(console, dataset.name, rows)
    others: list[SizeRow] = []
    if sizes:
        with show_progress("Other sizes", len(SIZES), console=console) as step:
            others = measure_sizes(sizes, seed, step)
        _show_sizes(console, others)
    options = {"data": data, "epochs": epochs, "limit": limit, "sizes": sizes or None, "seed": seed, "figure": figure}
    given = [word for path in bundle_files or () for word in ("--bundle", str(path))]
    write_outcome(
        console,
        "tail",
        command=format_command("tail", *given, **options),
        seed=seed,
        parameters={"dataset": dataset.name, "policy": policy, "epochs": epochs, "limit": limit},
        figures={"rows": [asdict(row) for row in rows], "sizes": [asdict(row) for row in others]},
        drawn=None if figure is None else _draw(dataset.name, rows),
        figure=figure,
        json=json_file,
        record=record,
    )


def measure_tail(console: "Console", dataset: "Dataset", bundle: "Bundle", limit: int | None) -> TailRow:
    """Clear figures on the whole test set, encrypted ones on the first `limit` images of it."""
    import numpy as np

    from experiments import encrypted
    from experiments.accuracy.agreement import bootstrap_intervals, compare_scores
    from he_infer.terminal import show_progress
    from models.metrics import figures

    features = bundle.features(dataset.test.images)
    clear = bundle.scores(features)
    whole = figures(dataset.test.labels, clear)
    (low, high), _ = bootstrap_intervals(dataset.test.labels, clear)
    count = len(features) if limit is None else min(limit, len(features))
    split = str(bundle.training.get("head", bundle.name))
    with show_progress(f"Encrypted, {split}", count, console=console) as step:
        found = encrypted.evaluate_bundle(bundle, features[:count], lambda done, _: step(done))
    result = compare_scores(dataset.test.labels[:count], clear[:count], found.scores)
    quartiles = np.percentile(found.evaluate_ms, [25, 50, 75])
    return TailRow(
        split=split,
        server=" → ".join(str(layer) for layer in bundle.head.layers),
        width=bundle.head.width,
        client_products=count_client_products(bundle),
        server_products=count_server_products(bundle),
        plan=str(found.plan.parameters),
        key_switches=found.plan.key_switches,
        n_clear=whole.n,
        clear_accuracy=whole.accuracy,
        accuracy_low=low,
        accuracy_high=high,
        clear_auc=whole.auc,
        n=result.n,
        clear_accuracy_of_n=result.clear_accuracy,
        encrypted_accuracy=result.encrypted_accuracy,
        label_agreement=result.label_agreement,
        max_abs_error=result.max_abs_error,
        server_ms=float(quartiles[1]),
        server_ms_low=float(quartiles[0]),
        server_ms_high=float(quartiles[2]),
        bytes_up=found.bytes_up,
        bytes_down=found.bytes_down,
        evaluation_key_bytes=found.evaluation_key_bytes,
    )


def count_client_products(bundle: "Bundle") -> int:
    """Multiplications by weights in the extractor's forward pass of one image."""
    from models.extractors.graph_checks import count_products

    return count_products(bundle.extractor.content)


def count_server_products(bundle: "Bundle") -> int:
    """Multiplications of the head in clear: by weights that are not zero, and for activations."""
    import numpy as np

    head = bundle.head
    squares = sum(
        (activation.degree - 1) * layer.outputs
        for activation, layer in zip(head.activations, head.linear[:-1], strict=True)
    )
    return squares + sum(int(np.count_nonzero(layer.weight)) for layer in head.linear)


def _show(console: "Console", dataset: str, rows: list[TailRow]) -> None:
    from experiments.present.screen_tables import figures_table

    title = f"{dataset}: how much of the network stays at the server"
    table = figures_table(title, ("",), [row.split for row in rows])
    lines: tuple[tuple[str, Any], ...] = (
        ("encrypted features", lambda r: str(r.width)),
        ("products at the client", lambda r: f"{r.client_products / 1e6:.2f} M"),
        ("products at the server", lambda r: f"{r.server_products / 1e3:.1f} k"),
        ("clear accuracy", lambda r: f"{r.clear_accuracy:.4f}"),
        ("  its 95 % interval", lambda r: f"{r.accuracy_low:.3f}-{r.accuracy_high:.3f}"),
        ("clear AUC", lambda r: f"{r.clear_auc:.4f}"),
        ("images encrypted", lambda r: f"{r.n} of {r.n_clear}"),
        ("their accuracy, clear", lambda r: f"{r.clear_accuracy_of_n:.4f}"),
        ("their accuracy, encrypted", lambda r: f"{r.encrypted_accuracy:.4f}"),
        ("label agreement", lambda r: f"{r.label_agreement:.2%}"),
        ("largest score error", lambda r: f"{r.max_abs_error:.1e}"),
        ("ring size and primes", lambda r: r.plan.split(" bits,")[0].replace("primes of ", "")),
        ("key switches", lambda r: str(r.key_switches)),
        ("server, median ms", lambda r: f"{r.server_ms:.1f}"),
        ("  quartiles", lambda r: f"{r.server_ms_low:.1f}-{r.server_ms_high:.1f}"),
        ("request / answer, KB", lambda r: f"{r.bytes_up / 1e3:.0f} / {r.bytes_down / 1e3:.0f}"),
        ("evaluation keys, MB", lambda r: f"{r.evaluation_key_bytes / 1e6:.2f}"),
    )
    for name, cell in lines:
        table.add_row(name, *(cell(row) for row in rows))
    console.print(table)


def _show_sizes(console: "Console", rows: "list[SizeRow]") -> None:
    from experiments.present.screen_tables import figures_table

    title = "Untrained convolutions of 3 x 3, x², average pool, two classes"
    figures = ("key switches", "ms", "KB up", "keys MB", "error")
    table = figures_table(title, ("maps", "channels", "N and primes"), figures)
    for row in rows:
        plan = row.plan.split(" bits,")[0].replace("primes of ", "").replace("N = ", "")
        cells = (row.maps, row.convolution, plan, str(row.key_switches), f"{row.server_ms:.1f}")
        size, keys = f"{row.bytes_up / 1e3:.0f}", f"{row.evaluation_key_bytes / 1e6:.1f}"
        table.add_row(*cells, size, keys, f"{row.max_abs_error:.0e}")
    console.print(table)


def _draw(dataset: str, rows: list[TailRow]) -> "Picture":
    from experiments.present.drawing import HATCHES, PALETTE, draw_picture

    def draw(figure: "Figure") -> None:
        accuracy, time, size = figure.subplots(1, 3)
        names = [row.split for row in rows]
        for place, row in enumerate(rows):
            look: dict[str, Any] = {"color": PALETTE[place], "edgecolor": "white", "hatch": HATCHES[place]}
            reach = [[row.clear_accuracy - row.accuracy_low], [row.accuracy_high - row.clear_accuracy]]
            accuracy.errorbar(place - 0.1, row.clear_accuracy, yerr=reach, fmt="o", color=PALETTE[place], capsize=4)
            accuracy.plot(place + 0.1, row.encrypted_accuracy, "x", color=PALETTE[place], markersize=8)
            time.bar(place, row.server_ms, **look)
            time.annotate(f"{row.server_ms:.1f}", (place, row.server_ms), ha="center", va="bottom")
            for offset, value in ((-0.27, row.bytes_up), (0.0, row.bytes_down), (0.27, row.evaluation_key_bytes)):
                size.bar(place + offset, max(value, 1) / 1e3, width=0.25, **look)
        share = "all" if rows[0].n == rows[0].n_clear else f"first {rows[0].n}"
        accuracy.set_title(f"test accuracy: clear (o, 95 %), encrypted (x, {share})", fontsize=9)
        time.set_title("server time of an image, ms", fontsize=9)
        size.set_title("KB: request, answer, keys (once)", fontsize=9)
        size.set_yscale("log")
        size.set_ylim(bottom=1)
        for axis in (accuracy, time, size):
            axis.set_xticks(range(len(names)), names)
        accuracy.set_xlim(-0.6, len(rows) - 0.4)
        figure.suptitle(f"{dataset}: what runs encrypted", fontsize=10, x=0.01, ha="left")

    return draw_picture(
        draw, (9.6, 3.4), "Accuracy, server time and bytes of a linear head, an MLP head and a convolution tail"
    )
