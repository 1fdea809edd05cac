"""Tables of figures on the screen: words first, figures to the right of them and set to the right."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from rich import box
from rich.table import Table


def figures_table(title: str, words: Sequence[str], figures: Sequence[str], **look: Any) -> Table:
    """An empty table.

    Args:
        title: stands above it, to the left.
        words: headings of the columns that hold words.
        figures: headings of the columns that hold figures.
        look: as for `rich.table.Table`.
    """
    table = Table(title=title, title_justify="left", **look)
    for heading in words:
        table.add_column(heading)
    for heading in figures:
        table.add_column(heading, justify="right")
    return table


def grouped_table(
    title: str, word: str, figures: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], **look: Any
) -> Table:
    """A table without lines, never broken within a cell, in groups that each have their name above them in bold.

    Args:
        title: stands above it, to the left.
        word: heading of the first column.
        figures: headings of the others.
        rows: each with its group's name; those of a group follow one another.
        look: as for `rich.table.Table`.
    """
    table = figures_table(title, (word,), figures, box=box.SIMPLE, **look)
    for column in table.columns:
        column.no_wrap = True
    for name, group in groupby(rows, key=itemgetter(0)):
        table.add_row(name, style="bold")
        for _, cells in group:
            table.add_row(*cells)
    return table


def format_short(value: float) -> str:
    """A figure with two digits or more, and never as a power of ten."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}" if value >= 0.01 else f"{value:.3f}"
