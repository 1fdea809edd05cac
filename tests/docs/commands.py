"""Commands that the pages name: checks of their words and options, and a run of them without a new interpreter."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import typer

from experiments.cli import app as experiments_app
from he_infer.cli import app as infer_app
from tests.docs.blocks import ROOT

PROGRAMS: dict[str, Any] = {
    "he-infer": typer.main.get_command(infer_app),
    "he-experiments": typer.main.get_command(experiments_app),
}
"""Commands by program. typer brings its own copy of click, which has no public names for its types."""
_EXTRAS = frozenset(
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
)
_TARGETS = frozenset(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
_QUICK = {
    "he-infer train": {"--epochs": "1", "--width": "32", "--hidden": "8"},
    "he-infer publish": {"--batch": "1"},
}
"""Options that a command is run with where the page does not give them: seconds instead of minutes."""


def check_statement(statement: str) -> None:
    """Check one line of a shell block: programs, commands, options, extras and Makefile targets exist.

    Raises:
        AssertionError: one of them does not.
        UsageError: an option is unknown or lacks its value.
    """
    words = shlex.split(statement)
    if words[0] == "make":
        assert words[1] in _TARGETS, statement
    elif words[:2] == ["pip", "install"]:
        named = {extra for word in words for extra in word.partition("[")[2].rstrip("]").split(",") if extra}
        assert named <= _EXTRAS, f"{statement}: unknown extras {named - _EXTRAS}"
    elif words[0].rpartition("/")[2] in PROGRAMS:
        check_command([words[0].rpartition("/")[2], *words[1:]])


def check_command(words: list[str]) -> None:
    """Check that a command and its options exist, without running it.

    Raises:
        UsageError: there is no such command or option, or an option lacks its value.
    """
    command = PROGRAMS[words[0]]
    context, rest = command.context_class(command), words[1:]
    while hasattr(command, "commands"):
        _, rest, _ = command.make_parser(context).parse_args(list(rest))
        if not rest:
            return
        _, command, rest = command.resolve_command(context, rest)
        context = command.context_class(command, parent=context)
    command.make_parser(context).parse_args(list(rest))


def run_statement(statement: str) -> None:
    """Run one line of a shell block in the current folder and environment.

    `pip` is checked only. `he-infer serve` gets a process of its own, as its import guard would outlive it here.

    Raises:
        AssertionError: the command ended with an exit code other than 0.
    """
    check_statement(statement)
    words = shlex.split(statement)
    if words[0] == "pip":
        return
    if words[0] == "export":
        os.environ.update([word.split("=", 1) for word in words[1:]])
        return
    for name, value in _QUICK.get(" ".join(words[:2]), {}).items():
        words += [] if name in words else [name, value]
    if words[:3] == ["he-infer", "keys", "new"]:
        Path(words[3]).unlink(missing_ok=True)
    if words[0] not in PROGRAMS or words[1] == "serve":
        line = [sys.executable, "-m", "he_infer", *words[1:]] if words[0] == "he-infer" else ["bash", "-c", statement]
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{statement}\n{done.stdout}{done.stderr}"
        return
    try:
        status = PROGRAMS[words[0]].main(words[1:], prog_name=words[0], standalone_mode=False)
    except SystemExit as stopped:
        status = stopped.code
    assert status in (0, None), f"{statement}: exit code {status}"
