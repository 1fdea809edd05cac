"""The stored history: encrypted, in order, readable only under its key, and safe to open in a spreadsheet."""

import csv
import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from he_infer.client.console.history import History, Record
from he_infer.errors import NotThisFormat

KEY = bytes(range(32))
RECORD = Record(
    1_700_000_000, "Müller^Anna/scan 1.dcm", "1.2.3", "1.2.3.4", "1.2.3.4.5", "A77", "pneumonia", 93.4, "",
    "chest-0a1b2c3d", "ab" * 32,
)  # fmt: skip


def test_results_are_read_newest_first_and_file_is_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    history = History(path, KEY)
    for number in range(3):
        history.add(replace(RECORD, name=f"scan {number}"))
    assert [record.name for record in History(path, KEY).search()] == ["scan 2", "scan 1", "scan 0"]
    data = path.read_bytes()
    assert not any(word in data for word in (b"scan", b"pneumonia", b"1.2.3", b"A77"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_search_finds_words_in_any_field_case_insensitive(tmp_path: Path) -> None:
    history = History(tmp_path / "history", KEY)
    history.add(RECORD)
    history.add(replace(RECORD, name="other", outcome="normal"))
    assert [record.outcome for record in history.search("MÜLLER pneu")] == ["pneumonia"]
    assert len(history.search("a77")) == 2
    assert history.search("absent") == []


def test_other_key_is_refused_by_name(tmp_path: Path) -> None:
    History(tmp_path / "history", KEY).add(RECORD)
    with pytest.raises(NotThisFormat, match="another key"):
        History(tmp_path / "history", bytes(32))


def test_swapped_changed_or_removed_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history = History(path, KEY)
    sizes = [0]
    for number in range(3):
        history.add(replace(RECORD, name=f"scan {number}"))
        sizes.append(path.stat().st_size)
    data = path.read_bytes()
    one, two, three = (data[start:end] for start, end in pairwise(sizes))
    for forged in (two + one + three, one + three, one + one + two, bytes([*one[:-1], one[-1] ^ 1]) + two + three):
        path.write_bytes(forged)
        with pytest.raises(NotThisFormat):
            History(path, KEY)


@settings(deadline=None)  # each example syncs a file
@given(cut=st.integers(1, 200))
def test_record_cut_by_crash_loses_only_that_record(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "history"
    history = History(path, KEY)
    history.add(RECORD)
    whole = path.stat().st_size
    history.add(RECORD)
    path.write_bytes(path.read_bytes()[: -min(cut, whole - 1)])
    again = History(path, KEY)
    assert len(again) == 1
    again.add(RECORD)
    assert len(History(path, KEY)) == 2


@pytest.mark.parametrize("content", [b"text of another kind", bytes(100), b"\xff" * 50])
def test_other_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "history").write_bytes(content)
    with pytest.raises(NotThisFormat, match="history"):
        History(tmp_path / "history", KEY)


def test_exports_hold_all_results_and_escape_formulas(tmp_path: Path) -> None:
    history = History(tmp_path / "history", KEY)
    history.add(replace(RECORD, name='=HYPERLINK("http://x")', study="+1", series="@x", reason="-2"))
    (row,) = csv.DictReader(io.StringIO(history.to_csv()))
    assert [row[name][0] for name in ("name", "study", "series", "reason")] == ["'"] * 4
    assert row["outcome"] == "pneumonia"
    assert json.loads(history.to_json())[0]["name"] == '=HYPERLINK("http://x")'


def test_erased_history_is_empty_and_accepts_results(tmp_path: Path) -> None:
    history = History(tmp_path / "history", KEY)
    history.add(RECORD)
    history.erase()
    assert (tmp_path / "history").stat().st_size == 0
    history.add(RECORD)
    assert len(History(tmp_path / "history", KEY)) == 1
