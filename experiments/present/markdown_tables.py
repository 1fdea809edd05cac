"""Markdown tables, and the format of values in every table of the experiments."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of text under headings."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_markdown(self) -> str:
        """Render as a Markdown table; a vertical bar inside a cell is escaped."""
        lines = [self.headings, tuple("---" for _ in self.headings), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def format_value(value: Any) -> str:
    """Format a value for a table: four significant digits; a dash for None, NaN and infinity."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        if value == int(value) and abs(value) < 1e15:
            return str(int(value))
        return f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def format_spread(values: Iterable[float | None]) -> str:
    """Format the mean of the finite values, with their sample standard deviation where there are several."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return "–"
    if len(finite) == 1:
        return f"{finite[0]:.4f}"
    return f"{statistics.fmean(finite):.4f} ± {statistics.stdev(finite):.4f}"
