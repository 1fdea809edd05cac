"""Cross-validation: every image is left out once, test images are not used, and means are right."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.accuracy.folds import Fold, FoldScores, average_networks, cut_fold, score_fold
from experiments.cli import app
from experiments.records.records import read_records
from models import datasets
from models.datasets import Split
from models.errors import InputError
from models.metrics import auc
from models.training.train import Recipe

RECIPE = Recipe(epochs=2, towers=1, calibrate=False)


def test_each_image_is_left_out_once_and_no_test_image_is_used(small_set: Path) -> None:
    dataset = datasets.load(str(small_set))
    known = [*dataset.train.digests(), *dataset.val.digests()]
    out: list[bytes] = []
    for part in range(4):
        seen, left = cut_fold(dataset, 4, part, seed=3)
        inside = {*seen.train.digests(), *seen.val.digests()}
        assert not inside & set(left.digests())
        assert not set(dataset.test.digests()) & {*inside, *seen.test.digests()}
        assert len(seen.train) + len(seen.val) + len(left) == len(known)
        out += left.digests()
    assert sorted(out) == sorted(known)


def test_fold_scores_depend_on_the_seed_and_not_on_the_left_out_part(small_set: Path) -> None:
    fold = Fold(str(small_set), "mlp", 16, 4, RECIPE, folds=4, part=1, seed=0, network=5)
    first, again, other = score_fold(fold), score_fold(fold), score_fold(replace(fold, network=6))
    np.testing.assert_array_equal(first.scores, again.scores)
    assert not np.array_equal(first.scores, other.scores)
    assert first.scores.shape == (50, 2)


def test_quality_is_the_mean_over_folds_and_choices_of_networks() -> None:
    random = np.random.default_rng(0)
    labels = [np.arange(30) % 2, np.arange(24) % 2]
    scored = [
        FoldScores(part, network, labels[part], random.normal(size=(len(labels[part]), 2)))
        for network in range(3)
        for part in range(2)
    ]
    one, two, three = average_networks(scored, 3)
    assert [found.networks for found in (one, two, three)] == [1, 2, 3]
    assert one.auc == pytest.approx(np.mean([auc(found.labels, found.scores) for found in scored]))
    together = [np.mean([s.scores for s in scored if s.part == part], axis=0) for part in range(2)]
    assert three.auc == pytest.approx(np.mean([auc(labels[part], together[part]) for part in range(2)]))
    sure = [FoldScores(0, 0, labels[0], 50.0 * np.eye(2)[labels[0]])]
    assert average_networks(sure, 1)[0].log_loss == pytest.approx(0, abs=1e-12)
    assert average_networks(sure, 1)[0].accuracy == 1


def test_class_with_too_few_images_is_refused(small_set: Path) -> None:
    dataset = datasets.load(str(small_set))
    rare = Split(dataset.train.images[:22], np.array([1] * 2 + [0] * 20))
    with pytest.raises(InputError, match="has 3 training and validation images"):
        cut_fold(replace(dataset, train=rare, val=Split(dataset.val.images[:2], np.array([0, 1]))), 5, 0, 0)


def test_crossval_command_prints_table_and_appends_records(small_set: Path, tmp_path: Path) -> None:
    options = "--networks 2 --width 16 --hidden 4 --epochs 1 --folds 2 --offset 0 --jobs 2"
    files = f"--json {tmp_path / 'c.json'} --record {tmp_path / 'r.jsonl'}"
    result = CliRunner().invoke(app, f"crossval --data {small_set} {options} {files}")
    assert result.exit_code == 0, result.output
    assert "200 training and validation images" in result.output
    found = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert set(found) >= {"1", "2", "command", "parameters"}
    assert 0 <= found["2"]["auc"] <= 1
    (record,) = read_records(tmp_path / "r.jsonl")
    assert (record.kind, record.parameters["offset"], record.parameters["folds"]) == ("crossval", 0.0, 2)
