"""Texts of others in results: names and headers of files, class names, a server's messages."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from he_infer.client.connection.session import Session
from he_infer.client.console.history import History, Record
from he_infer.client.results import Cause, Identifiers, Result
from he_infer.commands.client.result_files import write_csv
from he_infer.errors import DamagedBundle, RequestRefused
from he_infer.head.bundle_file import BundleFile
from tests.he_infer.client.connection.test_session import TOKEN, Impostor
from tests.he_infer.server.support.kit import write_bundle

KEY = bytes(range(32))
RECORD = Record(1_700_000_000, "scan", "1.2", "1.2.3", "1.2.3.4", "A7", "normal", 93.4, "", "chest-0a1b2c3d", "ab" * 32)
FORMULAS = (
    '=HYPERLINK("http://x")',
    "+1",
    "-1",
    "@x",
    "\t=1",
    "\uff1d1",
    "a;=1+1",
    'a";=1+1',
    "a\n=1+1",
    "a\r=1+1",
    ";=1",
)
START = ("=", "+", "-", "@", "\uff1d")


@pytest.fixture
def impostor() -> Iterator[Impostor]:
    server = Impostor()
    yield server
    server.close()


def cells(text: str, separator: str) -> list[str]:
    """Read CSV as a spreadsheet does, of a country with this separator; rows may be of any length."""
    return [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) for cell in row]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_no_text_becomes_a_formula(tmp_path: Path, formula: str, separator: str) -> None:
    result = Result(
        path=Path(formula), label=None, probability=None, probabilities={}, refusal=formula, cause=Cause.FILE,
        identifiers=Identifiers(accession=formula), frame=0, model="m", publisher=None, plan=None, threshold=None,
        receipt=None, seconds=None, remarks=(formula,), positive=formula,
    )  # fmt: skip
    write_csv(tmp_path / "results.csv", [result], [formula, "normal"])
    history = History(tmp_path / "history", KEY)
    history.add(replace(RECORD, name=formula, accession=formula, reason=formula))
    with (tmp_path / "results.csv").open(newline="") as file:
        texts = file.read(), history.to_csv()
    for text in texts:
        assert len(cells(text, separator)) >= 2
        assert not [cell for cell in cells(text, separator) if cell.strip('" \t\r\n').startswith(START)]


@pytest.mark.parametrize("field", [field.name for field in fields(Record) if field.type == "str" or field.type is str])
@pytest.mark.parametrize("character", ["a", "\0", "\U0001f600", "\udc80"])
def test_a_text_of_any_length_leaves_the_history_readable(tmp_path: Path, field: str, character: str) -> None:
    path = tmp_path / "history"
    history = History(path, KEY)
    history.add(replace(RECORD, **{field: character * 70_000}))
    history.add(replace(RECORD, **{each.name: character * 70_000 for each in fields(Record) if each.type is str}))
    history.add(RECORD)
    assert len(History(path, KEY)) == 3
    assert History(path, KEY).search() == history.search()


def test_two_pages_with_one_key_file_leave_the_history_readable(tmp_path: Path) -> None:
    path = tmp_path / "history"
    one, two = History(path, KEY), History(path, KEY)
    for number in range(3):
        one.add(replace(RECORD, name=f"one {number}"))
        two.add(replace(RECORD, name=f"two {number}"))
    assert len(History(path, KEY)) == 6
    one.erase()
    two.add(RECORD)
    assert len(History(path, KEY)) == 1


def test_a_message_of_a_server_is_short_and_has_no_control_character(impostor: Impostor) -> None:
    message = "\x1b[2J\u202e\x9b" + "x" * 60_000
    body = json.dumps({"error": {"code": "invalid", "message": message, "request_id": "0"}}).encode()
    impostor.answers["/v1/models"] = lambda: (422, {}, body)
    with Session(impostor.url, TOKEN, patience=0) as session, pytest.raises(RequestRefused) as caught:
        session.models()
    assert len(str(caught.value)) < 2000
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("place", ["name", "classes"])
@pytest.mark.parametrize("name", ["", " ", "a\x1b[2J", "a\nb", "\u202eabc", "\x9b", "x" * 201, "\ue000"])
def test_a_name_that_nobody_can_read_is_refused(tmp_path: Path, place: str, name: str) -> None:
    described = {"name": "chest", "classes": ["normal", "benign", "malignant"]}
    described[place] = name if place == "name" else ["normal", "benign", name]
    path = write_changed(tmp_path, described)
    with pytest.raises(DamagedBundle, match="not printable"):
        BundleFile.load(path)


@pytest.mark.parametrize(("one", "other"), [("normal", "normal"), ("normal", "normal "), ("\xe9", "e\u0301")])
def test_two_classes_of_one_name_are_refused(tmp_path: Path, one: str, other: str) -> None:
    path = write_changed(tmp_path, {"classes": [one, other, "malignant"]})
    with pytest.raises(DamagedBundle, match="same name"):
        BundleFile.load(path)


def test_class_names_in_any_script_are_read(tmp_path: Path) -> None:
    classes = ["Größe [x] (a/b)", "尺寸\u3000測試", "می\u200cخواهم"]
    assert BundleFile.load(write_changed(tmp_path, {"classes": classes})).classes == tuple(classes)


def write_changed(folder: Path, members: dict[str, object]) -> Path:
    """Write a bundle with other members in its description, past the checks of a writer."""
    path = write_bundle(folder / "toy.hebundle")
    with safe_open(path, framework="numpy") as file:
        described = json.loads(file.metadata()["he_infer_bundle"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    save_file(tensors, path, metadata={"he_infer_bundle": json.dumps({**described, **members})})
    return path
