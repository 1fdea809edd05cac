"""Run a grid on several processes: resumable, with progress, and safe to interrupt."""

import multiprocessing
import queue
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import pebble
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from experiments.accuracy.grid import GridModel, GridRun, group_by_model
from experiments.accuracy.grid_work import run_model
from experiments.accuracy.workers import start_manager, start_worker, stop_pool
from experiments.records import records
from experiments.records.records import Record
from he_infer.machine import interrupts_held

_POLL = 0.2


@dataclass(frozen=True)
class GridOutcome:
    """Outcome of a grid."""

    done: int
    """Runs recorded by this call."""
    before: int
    """Runs that the file of records held already."""
    failed: tuple[str, ...]
    """Failures, a line for each model or run."""
    interrupted: bool = False


def find_missing_runs(runs: list[GridRun], path: Path) -> list[GridRun]:
    """The runs that a file of records does not hold, or holds as failed.

    Raises:
        RecordError: the file holds something else than records.
    """
    if not path.exists():
        return runs
    held = {key for key, one in records.keep_latest(records.read_records(path)).items() if "failed" not in one.figures}
    return [run for run in runs if run.key not in held]


def run_grid(runs: list[GridRun], path: Path, *, grid: Path, jobs: int, console: Console) -> GridOutcome:
    """Run what the records lack; each finished run is one appended record, so an interruption loses only current runs.

    Raises:
        RecordError: the file holds something else than records.
        OSError: the records cannot be written.
    """
    todo = find_missing_runs(runs, path)
    before = len(runs) - len(todo)
    if not todo:
        return GridOutcome(0, before, ())
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    done, failed = 0, []
    manager = SyncManager(ctx=context)
    with interrupts_held():
        manager.start(start_manager)
    with manager, _Display(console, len(runs), before) as display:
        outbox = manager.Queue()
        with pebble.ProcessPool(max_workers=jobs, context=context, initializer=start_worker) as pool:
            models = group_by_model(todo)
            bundles = path.with_suffix(".bundles")
            with interrupts_held():
                futures: dict[Future[Any], GridModel] = {
                    pool.schedule(run_model, args=(model, some, path, bundles, grid, outbox)): model
                    for model, some in models.items()
                }
            try:
                while futures:
                    try:
                        message = outbox.get(timeout=_POLL)
                    except queue.Empty:
                        message = None
                    if message is not None:
                        line = display.show(message)
                        done += message[0] == "record"
                        failed += [line] if line else []
                        continue
                    for future in [one for one in futures if one.done()]:
                        model = futures.pop(future)
                        display.drop(model)
                        error = future.exception()
                        if error is not None:
                            failed.append(f"{model.data}, width {model.width}, seed {model.seed}: {error}")
            except KeyboardInterrupt:
                stop_pool(pool)
                return GridOutcome(done, before, tuple(failed), interrupted=True)
    return GridOutcome(done, before, tuple(failed))


class _Display:
    """Progress bars: one for the grid, one for each running model; lines where the output is not a terminal."""

    def __init__(self, console: Console, total: int, before: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all = self._progress.add_task("runs", total=total, completed=before)
        self._tasks: dict[GridModel, TaskID] = {}

    def __enter__(self) -> "_Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, message: tuple[Any, ...]) -> str | None:
        """Show a worker's message; return a line that describes a failure, or None."""
        kind, model = message[0], message[1]
        if kind == "step":
            _, _, step, done, of = message
            if model not in self._tasks:
                self._tasks[model] = self._progress.add_task("", total=of)
            text = f"{model.data}, width {model.width}, seed {model.seed}: {step}"
            self._progress.update(self._tasks[model], description=text, completed=done, total=of)
            return None
        record = Record.from_line(message[2])
        self._progress.advance(self._all)
        line = describe_error(record)
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        return line if "failed" in record.figures else None

    def drop(self, model: GridModel) -> None:
        """Remove a finished model's bar."""
        task = self._tasks.pop(model, None)
        if task is not None:
            self._progress.remove_task(task)


def describe_error(record: Record) -> str:
    """Describe a finished run in a line for the terminal."""
    asked, found = record.parameters, record.figures
    what = f"{found['dataset']}, {asked['extractor']} {asked['width']}, {asked['head']}, seed {record.seed}"
    if "failed" in found:
        return f"{what}: FAILED, {found['failed']}"
    clear = found["clear"]
    text = f"{what}: clear accuracy {clear['accuracy']:.4f}, AUC {_number(clear['auc'])}"
    if "encrypted" not in found:
        return f"{text} (in clear only)"
    other = found["encrypted"]
    return f"{text}; encrypted {other['accuracy']:.4f}, {_number(other['auc'])}; {other['flips']} labels differ"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
