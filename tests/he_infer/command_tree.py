"""All commands of both command lines, by their names."""

from collections.abc import Iterator

import click
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
