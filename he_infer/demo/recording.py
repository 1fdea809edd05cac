"""A console whose lines are kept, and saved as a picture of a terminal."""

import io
import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import MONOKAI

from he_infer.files import write_text

_WIDTH = 110
"""Characters of a line of the picture."""
_FONT = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)


class RecordingConsole(Console):
    """Prints to the terminal, and keeps each line; progress bars are shown and not kept."""

    def __init__(self) -> None:
        plain: Any = {"markup": False, "highlight": False, "emoji": False}
        super().__init__(**plain)
        self._kept = Console(
            file=io.StringIO(), record=True, width=_WIDTH, force_terminal=True, color_system="truecolor", **plain
        )

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as `Console` does."""
        super().print(*objects, **options)
        self._kept.print(*objects, **options)

    def save(self, path: Path, title: str) -> None:
        """Write all lines so far as an SVG picture. It loads nothing: its font is one of the reader's machine.

        Raises:
            OSError: the file cannot be written.
        """
        drawn = self._kept.export_svg(title=title, theme=MONOKAI)
        write_text(path, _FONT.sub("", drawn).replace("Fira Code", "monospace"))
