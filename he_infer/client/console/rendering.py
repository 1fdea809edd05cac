"""Templates of the page, and lists that are shown in portions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Generic, TypeVar

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(str(files("he_infer.client.console")))
PORTION = 50
"""Number of rows of a list that are shown at a time."""
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Portion(Generic[Entry]):
    """A portion of a long list."""

    rows: Sequence[Entry]
    number: int
    """Number of the portion, from 1."""
    last: int
    """Number of the last portion."""
    first: int
    """Place of its first row in the list, from 1."""
    total: int
    """Length of the list."""


def cut(entries: Sequence[Entry], number: int) -> Portion[Entry]:
    """Cut a portion out of a list. A number out of range gives the nearest portion."""
    last = max(1, -(-len(entries) // PORTION))
    number = min(max(number, 1), last)
    start = (number - 1) * PORTION
    return Portion(entries[start : start + PORTION], number, last, start + 1, len(entries))


class Renderer:
    """Renders templates. Every value is escaped."""

    def __init__(self) -> None:
        self._pages = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined
        )
        self._pages.filters["moment"] = lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Render a template with the session's CSRF token."""
        state = request.scope.get("state", {})
        values = {"csrf": state.get("csrf", ""), "here": "", "problem": "", **values}
        return HTMLResponse(self._pages.get_template(template).render(values), status)
