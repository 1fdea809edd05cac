"""Odd values of every option: one clear line, no traceback, an exit code that is not 0."""

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.he_infer.command_tree import COMMANDS
from tests.he_infer.commands.running import Run, one_line

INFER = {name.removeprefix("he-infer "): command for name, command in COMMANDS.items() if name.startswith("he-infer ")}


def _kind(parameter: Any) -> str:
    return str(parameter.type_descriptor.annotation)


def _needed(command: Any, given: str) -> list[str]:
    """Arguments and options that the command requires besides the given one: nothing that exists."""
    words = []
    for parameter in command.params:
        if parameter.required and given not in parameter.opts:
            value = "absent.key" if "enum" not in _kind(parameter) else "passphrase"
            words += [parameter.opts[-1], value] if parameter.opts[0].startswith("-") else [value]
    return words


STARTS = ("demo", "serve")
"""Commands that need no argument: they would start."""
OPTIONS = {
    parameter.opts[-1]: (name, _kind(parameter))
    for name, command in INFER.items()
    for parameter in command.params
    if name not in STARTS and parameter.opts[0].startswith("--") and "bool" not in _kind(parameter)
}
"""A command and the kind of value, for each option that some command has."""
PATHS = [option for option, (_, kind) in OPTIONS.items() if "Path" in kind]
NUMBERS = [(name, each.opts[-1]) for name, command in INFER.items() for each in command.params
           if each.opts[0].startswith("--") and ("int" in _kind(each) or "float" in _kind(each))
           and "Path" not in _kind(each)]  # fmt: skip
TEXTS = [option for option, (_, kind) in OPTIONS.items() if kind in ("<class 'str'>", "list[str]")]


@pytest.fixture
def odd(run: Run, tmp_path: Path) -> Run:
    """Run a command among odd files; a traceback fails the test, as does an exit code 0."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"\x00\xff text")
    os.mkfifo(tmp_path / "pipe")

    def say(*words: object) -> tuple[int, str, str]:
        code, out, err = run(*words)
        assert code in (1, 2), (words, out, err)
        assert one_line(err) if code == 1 else "Usage:" in err, (words, err)
        return code, out, err

    return say


@pytest.mark.parametrize("name", INFER)
def test_empty_argument_of_any_command_is_refused(name: str, odd: Run) -> None:
    assert "An argument is empty after --key." in odd(*name.split(), "--key", "")[2]


@pytest.mark.parametrize("words", ["show ''", "show --passphrase-file=", "--profile '' show"])
def test_empty_argument_is_refused_in_every_place(words: str, odd: Run) -> None:
    assert "An argument is empty" in odd("keys", *shlex.split(words))[2]


@pytest.mark.parametrize("option", PATHS)
def test_odd_path_gives_one_line(option: str, odd: Run) -> None:
    name = OPTIONS[option][0]
    for path in ("file/name \udcff", "n" * 300):
        odd(*name.split(), *_needed(INFER[name], option), option, path)


@pytest.mark.parametrize(("name", "option"), NUMBERS)
def test_what_is_no_number_is_wrong_usage(name: str, option: str, odd: Run) -> None:
    odd(*name.split(), *_needed(INFER[name], option), option, "-1")
    for number in ("many", "0x10"):
        code, _, err = odd(*name.split(), *_needed(INFER[name], option), option, number)
        assert code == 2, (number, err)
        assert option in err


@pytest.mark.parametrize("option", TEXTS)
def test_odd_text_gives_one_line(option: str, odd: Run) -> None:
    name = OPTIONS[option][0]
    for text in ("bytes \udcff", "http://u:p@h:99999999", "1,2,nan"):
        odd(*name.split(), *_needed(INFER[name], option), option, text)


@pytest.mark.parametrize(
    "words",
    [
        "publish pipe --to out",
        "plan pipe",
        "keys show pipe",
        "keys rotate pipe",
        "keys wrappings list pipe",
    ],
)
def test_pipe_that_would_be_read_twice_is_refused_and_not_waited_for(words: str, odd: Run) -> None:
    _, out, err = odd(*words.split())
    assert "pipe is a pipe" in err + out


@pytest.mark.parametrize("words", ["tokens add NAME", "clients limit NAME --daily-queries 3", "tokens revoke NAME"])
def test_name_that_is_not_utf8_is_refused_before_the_database(words: str, odd: Run) -> None:
    name = "ward \udcff"
    code, _, err = odd(*[name if word == "NAME" else word for word in words.split()], "--data-dir", "cloud")
    assert code == 1
    assert "not UTF-8: ward \\xdcff" in err
