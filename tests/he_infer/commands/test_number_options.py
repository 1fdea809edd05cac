"""Options that take numbers: no NaN, no infinity, and seeds that every generator takes."""

import pytest
import typer
from typer.testing import CliRunner

from experiments.cli import app as experiments_app
from he_infer.cli import app as infer_app
from he_infer.commands.number_options import MOST_SEED
from tests.he_infer.command_tree import COMMANDS

APPS = {"he-infer": infer_app, "he-experiments": experiments_app}
FRACTIONS = [
    (name, parameter.opts[-1])
    for name, command in COMMANDS.items()
    for parameter in command.params
    if "float" in str(parameter.type_descriptor.annotation)
]
SEEDS = [name for name, command in COMMANDS.items() if any("--seed" in one.opts for one in command.params)]


def _say(name: str, option: str, value: str) -> tuple[int, str]:
    program, *words = name.split()
    app: typer.Typer = APPS[program]
    # The option alone: values that are given are looked at before arguments that are missing.
    done = CliRunner().invoke(app, [*words, option, value])
    return done.exit_code, " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(("name", "option"), FRACTIONS)
def test_every_fraction_is_finite(name: str, option: str, value: str) -> None:
    code, text = _say(name, option, value)
    assert code == 2
    assert "no finite number" in text or "Input should be" in text, text


@pytest.mark.parametrize("value", ["-1", str(MOST_SEED + 1)])
@pytest.mark.parametrize("name", SEEDS)
def test_every_seed_is_one_that_all_generators_take(name: str, value: str) -> None:
    code, text = _say(name, "--seed", value)
    assert code == 2
    assert "Input should be" in text, text
