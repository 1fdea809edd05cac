"""The help of every command holds an example, and no command takes a secret as an argument."""

import pytest

from tests.he_infer.command_tree import COMMANDS


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
