"""Running `he-infer` commands in a test, and looking at what they leave."""

from collections.abc import Callable
from pathlib import Path

WORDS = "correct horse battery staple"
Run = Callable[..., tuple[int, str, str]]
"""Runs a command: exit code, output, errors."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_line(err: str) -> bool:
    return err.startswith("error: ") and err.count("\n") == 1
