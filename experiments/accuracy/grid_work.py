"""A worker process: it trains or loads an extractor, then fits, evaluates and records each head on its features."""

import functools
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from experiments.accuracy import candidates, evaluation
from experiments.accuracy.grid import EXTRACTORS, KIND, GridModel, GridRun
from experiments.records import records
from experiments.records.records import Record
from he_infer.errors import HeInferError
from models import datasets
from models.bundle import Bundle
from models.datasets import Dataset
from models.errors import ModelsError
from models.training.train import Recipe, train

Report = Callable[[str, int, int], None]
"""Takes a step's name, how much of it is done, and of how much."""


class Outbox(Protocol):
    """The sending half of a queue between processes."""

    def put(self, message: tuple[Any, ...], /) -> None:
        """Send; never waits for long."""


def run_model(model: GridModel, runs: list[GridRun], path: Path, bundles: Path, grid: Path, outbox: Outbox) -> None:
    """Do all runs of one model; each leaves a record as soon as it is done.

    A run that fails with one of the project's errors leaves a record too, with the error in its figures.

    Args:
        model: the extractor to train.
        runs: its heads and parameters.
        path: the file of records.
        bundles: the folder where trained extractors are kept for the next run.
        grid: the grid file, for the record's command.
        outbox: gets ("step", model, name, done, of) and ("record", model, line).

    Raises:
        ModelsError: the data set cannot be used or the training failed; nothing of this model is recorded.
    """

    def report(step: str, done: int, of: int) -> None:
        outbox.put(("step", model, step, done, of))

    dataset = datasets.load(model.data)
    bundle, trained = load_or_train_extractor(model, dataset, bundles, report)
    features = candidates.SplitFeatures(
        bundle.features(dataset.train.images),
        dataset.train.labels,
        bundle.features(dataset.val.images),
        dataset.val.labels,
        len(dataset.classes),
    )
    fitted: dict[str, candidates.FittedHead] = {}
    for run in runs:
        test = dataset.test if run.limit is None else dataset.test.first(run.limit)
        about = {
            "dataset": dataset.name,
            "digest": dataset.digest,
            "classes": list(dataset.classes),
            "n_test": len(dataset.test),
            "training": trained,
        }
        try:
            if run.head not in fitted:
                report(f"fit {run.head}", 0, 1)
                fitted[run.head] = candidates.fit_head(run.head, features, deployed=bundle.head, seed=model.seed)
            figures = evaluation.evaluate_head(
                fitted[run.head],
                bundle.features(test.images),
                test.labels,
                policy=run.policy,
                precision=run.precision,
                batch=run.batch,
                seed=model.seed,
                input_bound=bundle.input_bound,
                progress=functools.partial(report, f"encrypted {run.head}"),
            )
            head = fitted[run.head].head
            figures["layers"] = None if head is None else [str(layer) for layer in head.layers]
            figures["chosen"] = fitted[run.head].chosen
        except (ModelsError, HeInferError) as error:
            figures = {"failed": str(error)}
        record = Record.of(
            KIND,
            command=shlex.join(["he-experiments", "accuracy", "--grid", str(grid), "--records", str(path)]),
            seed=model.seed,
            parameters=run.parameters,
            figures={**about, **figures},
        )
        records.append_record(path, record)
        outbox.put(("record", model, record.to_line()))


def load_or_train_extractor(
    model: GridModel, dataset: Dataset, folder: Path, report: Report
) -> tuple[Bundle, dict[str, Any]]:
    """The extractor with its own head: from the folder of bundles, or trained now."""
    recipe = Recipe(epochs=model.epochs, channels=EXTRACTORS[model.extractor]).suited_to(dataset)
    digest = dataset.digest
    towers = recipe.towers_for(dataset, "mlp", model.width)
    shape = f"{model.extractor}-{model.width}" + (f"x{towers}" if towers > 1 else "")
    kept = folder / f"{dataset.name}-{digest[:8]}-{shape}-{recipe.epochs}-{model.seed}.hebundle"
    if kept.is_file():
        bundle = Bundle.load(kept)
    else:
        began, cpu = time.perf_counter(), time.process_time()
        bundle = train(
            dataset,
            head="mlp",
            width=model.width,
            seed=model.seed,
            recipe=recipe,
            progress=lambda epoch: report("train", epoch.number, epoch.of),
        )
        spent = {
            "seconds": round(time.perf_counter() - began, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
        }
        bundle = replace(bundle, training={**bundle.training, "spent": spent})
        folder.mkdir(parents=True, exist_ok=True)
        bundle.save(kept)
    return bundle, {
        "epochs": recipe.epochs,
        "towers": towers,
        "chosen_epoch": bundle.training["chosen_epoch"],
        "validation": bundle.training["validation"],
        **bundle.training["spent"],
    }
