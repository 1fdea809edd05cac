"""Records: a written record is read back, several writers do not mix lines, and invalid lines are named."""

import json
import math
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.errors import RecordError
from experiments.records import records
from experiments.records.records import Record

_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.text(), _JSON, max_size=4)


def _record(**changes: Any) -> Record:
    values: dict[str, Any] = {"command": "he-experiments x", "seed": 1, "parameters": {"head": "mlp"}}
    return Record.of("accuracy", **(values | {"figures": {"auc": 0.9}} | changes))


@given(kind=st.text(), command=st.text(), seed=st.integers(), parameters=_OBJECTS, figures=_OBJECTS)
def test_written_record_is_read_back_equal(
    kind: str, command: str, seed: int, parameters: dict[str, object], figures: dict[str, object]
) -> None:
    record = Record.of(kind, command=command, seed=seed, parameters=parameters, figures=figures)
    line = record.to_line()
    assert "\n" not in line
    assert Record.from_line(line) == record


def test_nan_becomes_null_and_arrays_become_lists() -> None:
    record = _record(figures={"auc": math.nan, "recall": np.array([0.5, np.nan]), "n": np.int64(3)})
    assert record.figures == {"auc": None, "recall": [0.5, None], "n": 3}
    assert json.loads(record.to_line())["figures"] == {"auc": None, "recall": [0.5, None], "n": 3}


def test_a_record_names_versions_and_machine_but_no_host() -> None:
    record = _record()
    assert {"python", "numpy", "he-infer"} <= set(record.versions)
    assert set(record.machine) == {"processor", "cores", "memory_gb", "system"}


def test_a_line_ends_only_at_a_line_feed(tmp_path: Path) -> None:
    record = _record(parameters={"name": "a\u2028b\x85c\rd"})
    records.append_record(tmp_path / "r.jsonl", record)
    assert records.read_records(tmp_path / "r.jsonl") == [record]


def test_run_key_depends_on_parameters_and_not_on_figures() -> None:
    assert _record().key == _record(figures={"auc": 0.1}, command="another").key
    assert _record().key != _record(seed=2).key
    assert _record().key != _record(parameters={"head": "linear"}).key
    assert _record().key == records.compute_run_key("accuracy", 1, {"head": "mlp"})


def test_later_runs_replace_earlier_ones_only_where_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for auc in (0.1, 0.2):
        records.append_record(path, _record(figures={"auc": auc}))
    assert [record.figures["auc"] for record in records.read_records(path)] == [0.1, 0.2]
    assert [record.figures["auc"] for record in records.keep_latest(records.read_records(path)).values()] == [0.2]


def test_cut_off_last_line_is_removed_before_appending(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    records.append_record(path, _record(seed=1))
    with path.open("ab") as file:
        file.write(_record(seed=2).to_line().encode()[:-9])
    assert [record.seed for record in records.read_records(path)] == [1]
    records.append_record(path, _record(seed=3))
    assert [record.seed for record in records.read_records(path)] == [1, 3]


def _write(path: Path, worker: int) -> None:
    for index in range(20):
        records.append_record(path, _record(seed=100 * worker + index, figures={"filler": "x" * 5000}))


def test_several_processes_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(path, worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = [record.seed for record in records.read_records(path)]
    assert sorted(found) == [100 * worker + index for worker in range(3) for index in range(20)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values | {"version": 2}, "version 2"),
        (lambda values: values | {"host": "here"}, "host"),
        (lambda values: {name: value for name, value in values.items() if name != "seed"}, "seed"),
        (lambda values: values | {"seed": "one"}, "'seed'"),
        (lambda values: values | {"seed": True}, "'seed'"),
        (lambda values: values | {"figures": [1]}, "'figures'"),
        (lambda values: values | {"figures": {"auc": math.nan}}, "NaN"),
        (lambda values: [values], "not a record"),
    ],
)
def test_invalid_line_is_refused_with_its_number(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "r.jsonl"
    records.append_record(path, _record())
    assert callable(change)
    values = change(json.loads(_record().to_line()))
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")
    with pytest.raises(RecordError, match=message) as caught:
        records.read_records(path)
    assert "line 2" in str(caught.value)


def test_a_missing_file_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no file of records"):
        records.read_records(tmp_path / "none.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(RecordError, match="cannot be read as records"):
        records.read_records(tmp_path / "binary.jsonl")


def test_value_without_json_form_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be written"):
        records.append_record(tmp_path / "r.jsonl", _record(figures={"x": object()}))
    assert not (tmp_path / "r.jsonl").exists()
