"""The help of every command holds an example, and no command takes a secret as an argument."""

from collections.abc import Iterator

import click
import pytest
import typer

from experiments.cli import app as experiments_app
from he_infer.cli import app as infer_app


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
    else:
        for word, child in children.items():
            yield from _commands(child, f"{name} {word}")


COMMANDS = dict(
    [
        *_commands(typer.main.get_command(infer_app), "he-infer"),
        *_commands(typer.main.get_command(experiments_app), "he-experiments"),
    ]
)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_holds_example(name: str) -> None:
    text = " ".join((COMMANDS[name].help or "").split())
    assert f"Example: `{name}" in text or f"`{name}" in text.partition("Example")[2], text


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_takes_a_secret_itself(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert not options & {"--passphrase", "--password", "--token", "--secret", "--secret-key"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    silent = [parameter.name for parameter in COMMANDS[name].params if not getattr(parameter, "help", None)]
    assert silent == []
