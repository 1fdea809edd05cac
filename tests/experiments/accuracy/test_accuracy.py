"""Accuracy in clear against encrypted: the grid file, resuming, the tables, and the figures' arithmetic."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from scipy.stats import binomtest
from typer.testing import CliRunner

from experiments.accuracy import agreement, candidates, evaluation, grid
from experiments.accuracy.command import FIELDS, accuracy
from experiments.accuracy.grid_run import find_missing_runs, run_grid
from experiments.errors import GridError, RecordError
from experiments.records import records
from experiments.records.records import Record
from experiments.reports.accuracy_tables import render_tables
from he_infer.head.layers import Head, Linear, Polynomial
from he_infer.terminal import explain
from models import metrics
from models.training.train import Recipe, train
from tests.models.kit import npz, split, toy

HEADER = '[[grid]]\ndata = ["d.npz"]\nheads = ["logistic"]\nseeds = [0]\n'


# The grid file


def _grid(folder: Path, text: str) -> Path:
    path = folder / "grid.toml"
    path.write_text(text)
    return path


def test_a_grid_is_a_product_and_shared_runs_are_run_once(tmp_path: Path) -> None:
    text = """
[[grid]]
data = ["a", "b"]
heads = ["deployed", "relu"]
seeds = [0, 1]
widths = [64, 512]
[[grid]]
data = ["a"]
heads = ["deployed", "lda"]
seeds = [0]
widths = [64]
policies = ["hidden", "open"]
limit = 9
[[grid]]
data = ["b"]
heads = ["relu"]
seeds = [1]
"""
    runs = grid.load_grid(_grid(tmp_path, text))
    assert len(runs) == 2 * 2 * 2 * 2 + 4 + 0
    assert len({run.key for run in runs}) == len(runs)
    assert [len(some) for some in grid.group_by_model(runs).values()] == [6] + [2] * 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected tables \[\[grid\]\]"),
        ("grid = 3", r"expected tables \[\[grid\]\]"),
        ("[[grid", "cannot be read as TOML"),
        (HEADER.replace("logistic", "forest"), "'heads' holds 'forest'. Known are deployed"),
        (HEADER + "depth = [3]", "'depth' is unknown"),
        (HEADER.replace("seeds = [0]", ""), "'seeds' is missing"),
        (HEADER.replace("[0]", "[]"), "'seeds' must be a list with at least one entry"),
        (HEADER.replace("[0]", "[true]"), "'seeds' holds"),
        (HEADER + "widths = [8]", "whole numbers from 16 to 4096"),
        (HEADER + "precisions = [2.0]", "numbers between 0 and 1"),
        (HEADER + 'policies = ["closed"]', "'policies' holds 'closed'"),
        (HEADER + "limit = 1", "'limit' is 1"),
        (HEADER + 'extractors = ["vit"]', "'extractors' holds 'vit'"),
    ],
)
def test_a_grid_that_cannot_be_run_is_refused_before_anything_runs(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GridError, match=message):
        grid.load_grid(_grid(tmp_path, text))
    with pytest.raises(GridError, match="There is no grid file"):
        grid.load_grid(tmp_path / "none.toml")


# A small grid, run for real


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    parts = {name: split(count, seed) for seed, (name, count) in enumerate((("train", 96), ("val", 32), ("test", 14)))}
    values = {f"{name}_images": part.images for name, part in parts.items()}
    npz(folder / "own.npz", **values, **{f"{name}_labels": part.labels for name, part in parts.items()})
    _grid(
        folder,
        f'[[grid]]\ndata = ["{folder / "own.npz"}"]\nheads = ["deployed", "lda", "relu"]\nseeds = [3]\n'
        'widths = [64]\nextractors = ["small"]\nepochs = 2\n',
    )
    return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> list[Record]:
    runs = grid.load_grid(folder / "grid.toml")
    path = folder / "r.jsonl"
    outcome = run_grid(runs, path, grid=folder / "grid.toml", jobs=1, console=Console(quiet=True))
    assert (outcome.done, outcome.before, outcome.failed, outcome.interrupted) == (3, 0, (), False)
    return records.read_records(path)


def test_each_run_leaves_one_record_with_all_figures(done: list[Record]) -> None:
    assert [record.parameters["head"] for record in done] == ["deployed", "lda", "relu"]
    for record in done:
        assert (record.kind, record.seed) == ("accuracy", 3)
        clear = record.figures["clear"]
        assert {"accuracy", "auc", "balanced_accuracy", "recall", "ece", "accuracy_interval"} <= set(clear)
        assert record.figures["n"] == record.figures["n_test"] == 14
    for record in done[:2]:
        other = record.figures["encrypted"]
        assert other["flips_beyond_error"] == 0
        assert other["label_agreement"] == 1.0
        assert 0 < other["score_error"]["median"] <= other["score_error"]["largest"] < 1e-2
        assert record.figures["price"]["evaluation_key_bytes"] > 0
    assert "encrypted" not in done[2].figures


def test_second_run_does_only_missing_runs(folder: Path, done: list[Record]) -> None:
    runs = grid.load_grid(folder / "grid.toml")
    assert find_missing_runs(runs, folder / "r.jsonl") == []
    outcome = run_grid(runs, folder / "r.jsonl", grid=folder / "grid.toml", jobs=1, console=Console(quiet=True))
    assert (outcome.done, outcome.before) == (0, 3)
    part = folder / "part.jsonl"
    records.append_record(part, done[1])
    records.append_record(
        part, Record.of("accuracy", command="", seed=3, parameters=runs[0].parameters, figures={"failed": "x"})
    )
    assert [run.head for run in find_missing_runs(runs, part)] == ["deployed", "relu"]


def test_tables_show_figures_and_missed_configurations(done: list[Record]) -> None:
    broken = Record.of(
        "accuracy",
        command="he-experiments x",
        seed=4,
        parameters=dict(done[0].parameters),
        figures={"dataset": "own", "failed": "An activation of degree 9."},
    )
    limited = Record.of(
        "accuracy", command="x", seed=3, parameters={**done[1].parameters, "limit": 5}, figures=done[1].figures
    )
    text = render_tables([*done, broken, limited])
    assert "The whole test set of 14 images. **Only the first 5 of 14 test images.**" in text
    assert f"{done[1].figures['clear']['accuracy']:.4f}" in text
    assert "seed 4: An activation of degree 9." in text
    assert "linear discriminant analysis, 2 epochs, first 5 images" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| 64")}
    assert widths <= {9, 11, 14, 15}
    with pytest.raises(RecordError, match="no record of the kind 'accuracy'"):
        render_tables([Record.of("price", command="", seed=0, parameters={}, figures={})])


def _invoke(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(accuracy)
    return CliRunner().invoke(app, list(arguments))


def test_wrong_options_of_accuracy_exit_with_usage_error(tmp_path: Path) -> None:
    assert _invoke().exit_code == 2
    assert _invoke("--grid", "g.toml").exit_code == 2
    assert _invoke("--grid", "g.toml", "--records", str(tmp_path / "no" / "r.jsonl")).exit_code == 2
    assert _invoke("--grid", "g.toml", "--records", str(tmp_path / "r.jsonl"), "--data", "x").exit_code == 2


def test_one_set_gives_table_fields_and_a_bundle_that_can_be_used_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "a.json"
    result = _invoke(
        "--data", str(folder / "own.npz"), "--head", "linear", "--epochs", "1", "--limit", "4", "--json", str(out)
    )
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "only the first 4 of 14 test images" in said
    assert re.search(r"Training (\d) networks, one after another, 1 pass each over \d+ images\.", said)
    assert "By the first pass, training takes about" in said
    assert said.count("is trained.") >= 1  # a line for each network, since this output is no terminal
    assert "always the largest class" in said
    figures = json.loads(out.read_text())
    assert tuple(figures) == FIELDS
    assert (figures["n"], figures["dataset"], figures["head"]) == (4, "own", "linear")
    assert figures["majority_share"] >= 0.5
    assert figures["bundle"] == "own-linear-seed0.hebundle"
    again = _invoke(
        "--data", str(folder / "own.npz"), "--bundle", figures["bundle"], "--limit", "4", "--json", str(out)
    )
    assert again.exit_code == 0, again.output
    assert "Training" not in again.output
    assert json.loads(out.read_text())["clear_accuracy"] == figures["clear_accuracy"]


def _members(session: int) -> list[str]:
    """The processes that a command started in a session of its own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(entry.name)
    return found


@pytest.mark.slow
def test_interrupted_grid_keeps_finished_runs_and_resumes(folder: Path) -> None:
    text = (folder / "grid.toml").read_text().replace("seeds = [3]", "seeds = [5, 6, 7, 8]")
    (folder / "long.toml").write_text(text)
    path = folder / "long.jsonl"
    command = [sys.executable, "-c", "from experiments.cli import main; main()", "accuracy"]
    command += ["--grid", str(folder / "long.toml"), "--records", str(path), "--jobs", "2"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until = time.monotonic() + 240
    while not (path.exists() and path.stat().st_size) and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # a terminal signals every process
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    kept = len(records.read_records(path))
    assert 1 <= kept < 12
    before = len(records.read_records(path))
    killed = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(records.read_records(path)) == before and time.monotonic() < until:
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    while _members(killed.pid) and time.monotonic() < until:  # its workers end with it
        time.sleep(0.1)
    assert not _members(killed.pid)
    kept = len(records.read_records(path))
    again = subprocess.run(command, check=True, capture_output=True, timeout=600)
    assert f"{12 - kept} runs recorded" in " ".join(again.stdout.decode().split())
    assert len(records.read_records(path)) == 12


# Arithmetic


def test_bootstrap_auc_equals_plain_definition() -> None:
    random = np.random.default_rng(0)
    for classes in (2, 3):
        labels = random.integers(0, classes, 60)
        scores = np.round(random.normal(size=(60, classes)) + np.eye(classes)[labels], 1)  # with ties
        drawn = random.multinomial(60, np.full(60, 1 / 60), size=4)
        found = agreement._areas(labels, scores, drawn.astype(float))
        for row, area in zip(drawn, found, strict=True):
            chosen = np.repeat(np.arange(60), row)
            assert math.isclose(area, metrics.auc(labels[chosen], scores[chosen]), abs_tol=1e-12)
    low, high = agreement.bootstrap_intervals(labels, scores)[1]
    assert low < metrics.auc(labels, scores) < high
    assert all(math.isnan(v) for v in agreement.bootstrap_intervals(np.zeros(5, int), scores[:5])[1])


def test_mcnemar_p_equals_exact_binomial_test() -> None:
    labels = np.zeros(40, dtype=np.int64)
    clear, other = (np.tile([1.0, 0.0], (40, 1)) for _ in range(2))
    clear[:9] = other[30:32] = (0.0, 1.0)
    found = agreement.compare_scores(labels, clear, other)
    assert (found.only_clear_right, found.only_encrypted_right) == (2, 9)
    assert math.isclose(found.mcnemar_p, binomtest(2, 11).pvalue)
    assert agreement.compare_scores(labels, clear, clear).mcnemar_p == 1.0


def test_a_label_that_changes_beyond_the_error_is_counted() -> None:
    labels = np.array([0, 0, 0])
    clear = np.array([[1.0, 0.0], [0.51, 0.5], [1.0, 0.0]])
    near = np.array([[1.0, 0.0], [0.5, 0.51], [1.0, 0.0]])
    assert evaluation.compare_with_clear(labels, clear, near)["flips_beyond_error"] == 0
    assert evaluation.compare_with_clear(labels, clear, near)["flips"] == 1
    errors = evaluation.compare_with_clear(labels, clear, near)["score_error"]
    assert errors["largest"] == pytest.approx(0.01)


# Heads


@pytest.mark.parametrize("name", list(grid.CANDIDATES))
def test_every_candidate_learns_and_encrypted_ones_have_layers(name: str) -> None:
    random = np.random.default_rng(0)

    def drawn(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        labels = np.arange(count) % 2
        return np.clip(random.normal(size=(count, 24)) + 1.2 * np.eye(2, 24)[labels], -4, 4), labels

    (x, y), (val_x, val_y), (test_x, test_y) = drawn(240), drawn(60), drawn(60)
    features = candidates.SplitFeatures(x, y, val_x, val_y, 2)
    deployed = Head((Linear(np.eye(2, 24), np.zeros(2)),))
    fitted = candidates.fit_head(name, features, deployed=deployed, seed=0)
    assert metrics.figures(test_y, fitted.scores(test_x)).auc > 0.75
    assert (fitted.head is None) == (name == "relu")
    if fitted.head is not None:
        np.testing.assert_allclose(fitted.head.evaluate(test_x), fitted.scores(test_x))
        kinds = {type(layer) for layer in fitted.head.layers}
        assert (Polynomial in kinds) == (name in ("quadratic", "mlp", "cubic"))


# Messages for wrong input


def _line(*arguments: str) -> str:
    result = _invoke(*arguments)
    assert result.exception is not None
    line = explain(result.exception)
    assert line is not None, result.exception
    assert "\n" not in line
    return line


def test_unusable_data_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    one = npz(tmp_path / "one.npz", train_labels=np.zeros((24, 1), np.uint8))
    assert "neither a file, nor a folder, nor a known name" in _line("--data", "nosuchset")
    assert "is empty" in _line("--data", str(tmp_path / "empty"))
    assert "cannot be read as an .npz data set" in _line("--data", str(tmp_path / "cut.npz"))
    assert "holds a single class" in _line("--data", str(one))


def test_bundle_of_other_classes_gives_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.hebundle").write_text("text")
    own = str(folder / "own.npz")
    assert "is not a bundle" in _line("--data", own, "--bundle", str(tmp_path / "text.hebundle"))
    train(toy(classes=3), width=16, head="linear", recipe=Recipe(epochs=1, channels=(4,))).save(tmp_path / "b.hebundle")
    assert "tells apart corner 0, corner 1, corner 2" in _line("--data", own, "--bundle", str(tmp_path / "b.hebundle"))


def test_unreadable_grid_or_records_give_one_line(tmp_path: Path) -> None:
    good = _grid(tmp_path, HEADER)
    (tmp_path / "r.jsonl").write_text("{}\n")
    assert "no grid file" in _line("--grid", str(tmp_path / "none.toml"), "--records", str(tmp_path / "x.jsonl"))
    assert "line 1: not a record" in _line("--grid", str(good), "--records", str(tmp_path / "r.jsonl"))
