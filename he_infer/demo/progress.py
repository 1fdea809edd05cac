"""Numbered steps on the terminal: a bar while a step runs, one line when it is done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Step:
    """A running step; `update` moves its bar, `result` becomes its closing line."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task
        self.result = ""

    def update(self, done: int, total: int) -> None:
        """Move the bar to `done` of `total`."""
        self._bar.update(self._task, completed=done, total=total)


class Steps:
    """The steps of a job, counted.

    Args:
        console: where they are shown; on something that is not a terminal only the closing lines are.
        count: how many steps there will be.
    """

    def __init__(self, console: Console, count: int) -> None:
        self._console = console
        self._count = count
        self._number = 0

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Run one step; its closing line comes only when it ends without an error."""
        self._number += 1
        label = f"[{self._number}/{self._count}] {name}"
        started = time.perf_counter()
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        with bar:
            step = Step(bar, bar.add_task(label, total=None))
            yield step
        seconds = time.perf_counter() - started
        self._console.print(f"{label:<34} {seconds:6.1f} s   {step.result}", markup=False, highlight=False)
