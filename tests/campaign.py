"""Shared code of the long campaigns: progress, and counts on the screen and in a file."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, and a line for each tenth elsewhere."""
    if sys.stderr.isatty():
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda steps: bar.advance(task, steps)
        return
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        before, done = done, done + steps
        if 10 * before // total != 10 * done // total:
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    yield advance


def show(title: str, figures: Mapping[str, Any]) -> None:
    """A table of figures; those that are counts by kind become a line each."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in figures.items():
        if isinstance(value, Mapping):
            table.add_section()
            for kind, count in value.items():
                table.add_row(f"{name.replace('_', ' ')}: {kind}", str(count))
            table.add_section()
        else:
            table.add_row(name.replace("_", " "), str(value))
    Console(width=110).print(table)


def write(path: Path, figures: Mapping[str, Any]) -> None:
    """The figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
