"""Patients that are left out in turn: a model never sees the patient that it judges, nor a test image."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.accuracy.left_out import find_patients, judge_left_out
from experiments.cli import app
from models import datasets
from models.bundle import Bundle
from models.datasets import Dataset
from models.errors import InputError
from models.training.train import Recipe, train
from tests.models.kit import toy


def with_patients(dataset: Dataset, patients: int) -> Dataset:
    """Each class shared by so many patients, each of whom has two pictures."""
    people, pictures = {}, {}
    for name, split in (("train", dataset.train), ("val", dataset.val)):
        turn = np.zeros(len(split), dtype=np.int64)
        for label in range(len(dataset.classes)):
            own = split.labels == label
            turn[own] = np.arange(own.sum())
        people[name] = split.labels * 10 + turn % patients
        pictures[name] = people[name] * 2 + turn // patients % 2
    return replace(dataset, people=people, pictures=pictures)


def test_no_model_sees_the_patient_that_it_judges_nor_a_test_image() -> None:
    dataset = with_patients(toy(), 2)
    people, digests = dataset.people["train"], dataset.train.digests()
    seen: list[Dataset] = []

    def fit(given: Dataset) -> Bundle:
        seen.append(given)
        return train(given, head="linear", width=16, recipe=Recipe(epochs=4, towers=1))

    patients = find_patients(dataset)
    assert patients == [0, 1, 10, 11]
    judged = list(judge_left_out(dataset, patients, fit))
    for patient, given in zip(patients, seen, strict=True):
        inside, own = (
            {*given.train.digests(), *given.val.digests()},
            {digests[index] for index in np.flatnonzero(people == patient)},
        )
        assert own
        assert not inside & own
        assert not inside & set(dataset.test.digests())
        assert set(given.test.digests()) == own
        assert len(given.train) == int((people != patient).sum())
        assert len(given.val) == int((dataset.people["val"] != patient).sum())
    assert [one.kind for one in judged] == ["corner 0", "corner 0", "corner 1", "corner 1"]
    assert [(one.images, one.pictures) for one in judged] == [(48, 2)] * 4
    assert all(one.right == (one.recall > 0.5) for one in judged if abs(one.recall - 0.5) > 0.3)
    assert sum(one.recall for one in judged) / 4 > 0.6


def test_the_only_patient_of_a_class_stays_in() -> None:
    dataset = with_patients(toy(), 2)
    people = np.where(dataset.train.labels == 0, 5, dataset.people["train"])
    assert find_patients(replace(dataset, people={**dataset.people, "train": people})) == [10, 11]
    alone = replace(dataset, people={**dataset.people, "train": dataset.train.labels})
    with pytest.raises(InputError, match="none can be left out"):
        find_patients(alone)


def test_a_set_that_states_no_patients_is_refused() -> None:
    with pytest.raises(InputError, match="which patient"):
        find_patients(toy())


def test_command_judges_patients_and_writes_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets, "load", lambda name: with_patients(toy(), 2))
    arguments = ["left-out", "--extractor", "cnn", "--epochs", "1", "--head", "linear"]
    done = CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "figures.json")])
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    right = sum(one["right"] for one in figures["patients"])
    assert f"{right} of 4 patients" in " ".join(done.output.split())
    refused = CliRunner().invoke(app, ["left-out", "--epochs", "1"])
    assert "is kept as it is" in str(refused.exception)
