"""Other libraries' programs: their layout computes the head, and what goes wrong in another interpreter is one line."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.cost.compare_peers import list_programs, measure_peer
from experiments.cost.other_interpreter import PeerProgram
from experiments.cost.peers.head_circuit import HeadCircuit, Vector
from experiments.cost.peers.serving import read_licence
from experiments.cost.speed import make_head
from experiments.errors import ExperimentError

PYTHON = Path(sys.executable)
CLEAR_PROGRAM = """
import json, sys
import numpy as np
with np.load(sys.argv[1]) as arrays:
    values = arrays["features"] @ arrays["weights0"].T + arrays["biases0"]
    if "weights1" in arrays:
        values = values**2 @ arrays["weights1"].T + arrays["biases1"]
report = {"scores": (values + ERROR).tolist(), "cpu_ms": [2.0, 1.0, 4.0], "parameters": "in clear"}
json.dump(report | {"version": "1.0", "licence": "MIT"}, sys.stdout)
"""


class ClearScheme:
    """Vectors in clear that refuse a rotation without a key and count the products."""

    parameters = "in clear"

    def __init__(self, slots: int, babies: int) -> None:
        self.slots, self.babies, self.products = slots, babies, 0

    def make_keys(self, steps: Sequence[int]) -> None:
        self.steps = set(steps)

    def encrypt(self, values: Vector) -> Vector:
        assert values.shape == (self.slots,)
        return values

    def decrypt(self, value: Vector) -> Vector:
        return value

    def encode_weights(self, values: Vector, beside: Vector) -> Vector:
        assert values.shape == beside.shape
        return values

    encode_biases = encode_weights

    def rotate(self, value: Vector, step: int) -> Vector:
        assert step in self.steps
        return np.roll(value, -step)

    def rotate_many(self, value: Vector, steps: Iterable[int]) -> list[Vector]:
        return [self.rotate(value, step) for step in steps]

    def multiply(self, value: Vector, weights: Vector) -> Vector:
        self.products += 1
        return value * weights

    def add(self, value: Vector, other: Vector) -> Vector:
        return value + other

    add_biases = add

    def square(self, value: Vector) -> Vector:
        return value**2

    def rescale(self, value: Vector) -> Vector:
        return value


@pytest.mark.parametrize("babies", [1, 2, 4])
@pytest.mark.parametrize(
    ("widths", "slots", "products"),
    [
        ((512, 10), 2048, 4),
        ((512, 10), 4096, 2),
        ((512, 64, 10), 4096, 8 + 1),
        ((20, 3), 1024, 1),
        ((20, 6, 3), 64, 4 + 1),
    ],
)
def test_layout_computes_the_head_with_few_products(
    widths: tuple[int, ...], slots: int, products: int, babies: int
) -> None:
    head = make_head(widths)
    scheme = ClearScheme(slots, babies)
    circuit = HeadCircuit([(layer.weight, layer.bias) for layer in head.linear], scheme)
    features = np.random.default_rng(1).normal(size=(2, widths[0]))
    for row, expected in zip(features, head.evaluate(features), strict=True):
        scheme.products = 0
        np.testing.assert_allclose(circuit.decrypt(circuit.evaluate(circuit.encrypt(row))), expected, atol=1e-12)
        assert scheme.products == products


def write_program(folder: Path, text: str) -> PeerProgram:
    (folder / "program.py").write_text(text, encoding="utf-8")
    return PeerProgram("A peer", "program", "a-peer", folder, seconds=60)


@pytest.mark.parametrize("widths", [(20, 3), (20, 6, 3)])
def test_program_gets_the_head_and_its_figures_come_back(widths: tuple[int, ...], tmp_path: Path) -> None:
    program = write_program(tmp_path, CLEAR_PROGRAM.replace("ERROR", "1e-3"))
    row = measure_peer("a head", make_head(widths), program, PYTHON, 3)
    assert (row.library, row.parameters, row.licence) == ("A peer 1.0", "in clear", "MIT")
    assert (row.cpu_ms_low, row.cpu_ms, row.cpu_ms_high) == (1.5, 2.0, 3.0)
    assert row.max_abs_error == pytest.approx(1e-3)


@pytest.mark.parametrize("wrong", ["0.1", "float('nan')"])
def test_wrong_scores_are_an_error(wrong: str, tmp_path: Path) -> None:
    program = write_program(tmp_path, CLEAR_PROGRAM.replace("ERROR", wrong))
    with pytest.raises(ExperimentError, match="A peer gave wrong scores for a head: their largest error is"):
        measure_peer("a head", make_head((20, 3)), program, PYTHON, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("print('hello')", "printed no JSON object .* but 'hello"),
        ("print('{}')", "printed other figures than scores and times"),
        ("raise SystemExit('out of luck')", "did not run with .*: out of luck. Install it there"),
        ("import time; time.sleep(60)", "not done within 0.2 s"),
    ],
)
def test_failing_program_gives_one_line(text: str, message: str, tmp_path: Path) -> None:
    program = write_program(tmp_path, text)
    if "sleep" in text:
        program = PeerProgram("A peer", "program", "a-peer", tmp_path, seconds=0.2)
    with pytest.raises(ExperimentError, match=message) as caught:
        measure_peer("a head", make_head((20, 3)), program, PYTHON, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("program", list_programs(), ids=lambda program: program.name)
def test_absent_package_gives_one_line(program: PeerProgram) -> None:
    with pytest.raises(ExperimentError) as caught:
        measure_peer("a head", make_head((20, 3)), program, PYTHON, 3)
    assert str(caught.value).startswith(f"{program.name} did not run with {PYTHON}: ModuleNotFoundError: No module")
    assert str(caught.value).endswith(f"pip install {program.packages}")


def test_absent_interpreter_gives_one_line() -> None:
    with pytest.raises(ExperimentError, match=r"^/no/python cannot be started: there is no such program"):
        measure_peer("a head", make_head((20, 3)), list_programs()[0], Path("/no/python"), 3)


def test_interpreter_is_found_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (tmp_path / "python").symlink_to(PYTHON)
    monkeypatch.chdir(tmp_path)
    assert write_program(folder, "print('{\"a\": 1}')").run(Path("./python")) == {"a": 1}


@pytest.mark.parametrize("program", list_programs(), ids=lambda program: program.name)
def test_library_computes_the_head(program: PeerProgram) -> None:
    variable = f"HE_INFER_PEER_{program.name.split()[0].replace('-', '_').upper()}"
    if variable not in os.environ:
        pytest.skip(f"{variable} names no interpreter: the library needs an environment of its own")
    for widths in ((512, 10), (512, 64, 10)):
        row = measure_peer("a head", make_head(widths), program, Path(os.environ[variable]), 3)
        assert row.cpu_ms > 0
        assert row.max_abs_error < 1e-3


def test_licence_is_the_one_that_the_package_names() -> None:
    assert read_licence(distribution("numpy")).startswith("BSD-3-Clause")


def test_command_measures_engines_and_names_what_it_left_out(tmp_path: Path) -> None:
    figures = tmp_path / "peers.json"
    result = CliRunner().invoke(app, f"peers --no-tenseal --repeats 3 --json {figures}")
    assert result.exit_code == 0, result.output
    assert "Left out: OpenFHE, seal-python, Orion v2, desilofhe." in " ".join(result.output.split())
    rows: list[dict[str, Any]] = json.loads(figures.read_text(encoding="utf-8"))["rows"]
    assert {row["head"] for row in rows} == {"512->10", "512->64->x^2->10"}
    assert all(row["library"].startswith("here, ") and row["max_abs_error"] < 1e-3 for row in rows)
