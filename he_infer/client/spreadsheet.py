"""CSV in which a spreadsheet finds no formula: names of files, patients and classes are untrusted."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile(r"((?:^|[;\t\r\n])[\s\"]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a formula begins: at the beginning of a text, or behind a character that a spreadsheet may take for the end of
a cell or line. Where the comma is the decimal sign it splits lines at semicolons, within quotes that do not begin a
cell, too. The last four are the wide forms of the first."""


def to_csv(rows: Iterable[Sequence[object]]) -> str:
    """Write rows as CSV; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_escape(cell) for cell in row] for row in rows)
    return text.getvalue()


def _escape(cell: object) -> object:
    return _FORMULA.sub(r"\1'", cell) if isinstance(cell, str) else cell
