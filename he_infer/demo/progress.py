"""Numbered steps on the terminal: a bar while a step runs, its time and result when it is done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from he_infer.terminal import Progress, show_progress

_INDENT = 6
"""Columns by which what is said of a step is indented."""


@dataclass
class Step:
    """A running step; `update` moves its bar, `result` becomes its closing line."""

    move: Progress
    result: str = ""

    def update(self, done: int, total: int) -> None:
        self.move(done, total)


class Steps:
    """Numbered steps of a job.

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
        """Run a step; its closing line comes only when it ends without an error."""
        self._number += 1
        label = f"[{self._number}/{self._count}] {name}"
        started = time.perf_counter()
        with show_progress(label, console=self._console) as move:
            step = Step(move)
            yield step
        seconds = time.perf_counter() - started
        self._console.print(f"{label:<36} {seconds:6.1f} s", markup=False, highlight=False)
        if step.result:
            self.remark(step.result)

    def remark(self, text: str, style: str = "") -> None:
        """Print a sentence below its step, indented however narrow the terminal is."""
        self._console.print(Padding(Text(text, style), (0, 0, 0, _INDENT)), markup=False, highlight=False)
