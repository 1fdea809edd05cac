"""The price: every path gives the same labels, and a missing package gives one line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.cost import price_paths, tenseal_peer
from experiments.cost.price_chart import compute_wilson_interval
from experiments.errors import ExperimentError
from he_infer.head.layers import Head, Linear, Polynomial
from models.datasets import Split


def test_every_path_classifies_the_same_images(small_set: Path, small_bundle: Path, tmp_path: Path) -> None:
    figures = tmp_path / "p.json"
    heads = "--head logistic --head deployed --head cubic --head relu"
    limits = "--limit 3 --peer-limit 2"
    files = f"--figure {tmp_path}/p.png --json {figures}"
    result = CliRunner().invoke(app, f"price --data {small_set} --bundle {small_bundle} {heads} {limits} {files}")
    assert result.exit_code == 0, result.output
    assert "the first test images of 60" in result.output
    assert "Concrete ML was left out" in result.output
    rows = json.loads(figures.read_text(encoding="utf-8"))["rows"]
    # TenSEAL's path carries no cubic, and ReLU has no encrypted form.
    assert [row["head"] for row in rows] == ["logistic"] * 4 + ["deployed"] * 4 + ["cubic"] * 3 + ["relu"]
    for row in rows:
        assert row["images"] == (2 if row["path"].startswith("TenSEAL") else 3)
        assert row["label_agreement"] == 1
        sealed = row["path"] != "in clear"
        assert (row["bytes_up"] > 10_000) == sealed
        assert row["largest_error"] < 0.2
    assert {row["ratio"] for row in rows if row["path"].startswith("TenSEAL")} == {1.0}


def test_unknown_head_is_refused(small_set: Path, small_bundle: Path) -> None:
    result = CliRunner().invoke(app, f"price --data {small_set} --bundle {small_bundle} --head forest")
    assert result.exit_code != 0
    assert "There is no head 'forest'. Expected one of deployed, logistic" in str(result.exception or result.output)


def test_head_without_tenseal_path_is_refused() -> None:
    layer = Linear(np.eye(3), np.zeros(3))
    with pytest.raises(ExperimentError, match="kind linear or mlp"):
        tenseal_peer.run_tenseal(Head((layer, Polynomial((1.0, 0.5, 1.0)), layer)), np.zeros((1, 3)), lambda done: None)


@pytest.mark.parametrize(
    ("python", "message"), [(sys.executable, "No module named 'concrete'"), ("/no/python", "cannot be started")]
)
def test_interpreter_without_concrete_ml_gives_one_line(python: str, message: str) -> None:
    features, labels = np.eye(4), np.array([0, 1, 0, 1])
    split = Split(np.zeros((4, 28, 28), np.uint8), labels)
    with pytest.raises(ExperimentError, match=message):
        price_paths.classify_with_concrete(Path(python), features, split, features, labels)


@given(count=st.integers(1, 400), share=st.floats(0, 1))
def test_accuracy_interval_equals_scipy_wilson_interval(count: int, share: float) -> None:
    right = round(share * count)
    low, high = compute_wilson_interval(right / count, count)
    expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert low == pytest.approx(expected.low, abs=1e-6)
    assert high == pytest.approx(expected.high, abs=1e-6)
