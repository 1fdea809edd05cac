"""Names and trees: every name that a file system allows is sealed, restored and compared."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cipher.errors import UnsupportedFormat
from cipher.keys.vault_key import VaultKey
from cipher.vault.find import survey
from cipher.vault.ledger import Entry, Ledger
from cipher.vault.names import Wanted, assign_places, fold, from_stored, split, to_stored, windows_name
from cipher.vault.protecting import Protecting, assign_stored_paths
from cipher.vault.restoring import Restoring, plan

KEY = VaultKey(bytes(range(32)))
ODD = [
    "2024-01-01T12:30:00.txt", "IM\\0001", "plain.txt", "trailing.", "trailing ", " leading", "CON", "con.txt", "NUL",
    "COM1.dcm", "LPT\u00b9", "a<b>c", 'quo"te', "pipe|d", "que?ry", "st*ar", "tab\there", "new\nline", "\x7f", "%41",
    "\u00e9", "e\u0301", "\u00c9", "STRASSE", "stra\u00dfe", "\u0130", "i", "I", "~", "a~2", "-rf", "$HOME", "[bold]x",
    "\u202egnp.exe", "\ufeffbom", "x" * 255, "\u3042" * 85, "...", ".hidden", "a.sealed", "b.dcm", "\udcff\udcfe",
]  # fmt: skip

names = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
        lambda name: name not in (".", "..") and len(name.encode()) <= 200
    ),
    st.binary(min_size=1, max_size=12)
    .filter(lambda raw: not set(raw) & {0, 47} and raw not in (b".", b".."))
    .map(os.fsdecode),
)
leaves = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(["link:plain.txt", "link:../..", "link:/nowhere", "link:a b", "link:\udcff"]),
    st.just({}),
)
trees = st.dictionaries(
    names, st.recursive(leaves, lambda inner: st.dictionaries(names, inner, max_size=3)), max_size=5
)


def build(folder: Path, tree: dict[str, object]) -> None:
    folder.mkdir()
    for name, what in tree.items():
        match what:
            case bytes():
                (folder / name).write_bytes(what)
            case str():
                (folder / name).symlink_to(what.removeprefix("link:"))
            case dict():
                build(folder / name, what)


def read(folder: Path) -> dict[bytes, object]:
    """Everything below a folder: contents, link targets, empty folders."""
    seen: dict[bytes, object] = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(top, name)
            key = os.fsencode(path.relative_to(folder))
            if path.is_symlink():
                seen[key] = ("link", str(path.readlink()))
            elif path.is_file():
                seen[key] = path.read_bytes()
            elif not any(path.iterdir()):
                seen[key] = "empty folder"
    return seen


def seal_and_restore(sources: list[Path], vault: Path, back: Path, names: str) -> list[str]:
    work = Protecting(vault, KEY, names="kept" if names == "kept" else "hidden", any_file=True)
    ledger = Ledger()
    for item in assign_stored_paths(survey(sources).found, ledger, None):
        work(item, lambda _: None)
    back.mkdir()
    objects = survey([vault]).found
    places, unopened = plan(objects, KEY, back)
    assert not unopened
    restore = Restoring(back, KEY, places=places)
    return [restore(item, lambda _: None).note for item in objects]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees)
def test_any_sealed_tree_is_restored_equal(tree: dict[str, object]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        build(folder / "in", {**tree, "always": b"here"})
        assert not any(seal_and_restore([folder / "in"], folder / "vault", folder / "back", "hidden"))
        assert read(folder / "back" / "in") == read(folder / "in")
    finally:
        shutil.rmtree(folder)


def test_odd_names_are_restored_under_kept_names(tmp_path: Path) -> None:
    short = [name for name in ODD if len(os.fsencode(name)) < 240]
    build(tmp_path / "in", dict.fromkeys(short, b"x"))
    seal_and_restore([tmp_path / "in"], tmp_path / "vault", tmp_path / "back", "kept")
    assert read(tmp_path / "back" / "in") == read(tmp_path / "in")


@given(
    paths=st.lists(st.lists(names, min_size=1, max_size=3).map(tuple), min_size=1, max_size=8), windows=st.booleans()
)
def test_no_two_files_get_one_place(paths: list[tuple[str, ...]], windows: bool) -> None:
    wanted = [Wanted(parts, str(number)) for number, parts in enumerate(paths)]
    places = assign_places(wanted, windows=windows, folding=True)
    folded = {item: tuple(fold(part) for part in place) for item, place in places.items()}
    assert len(set(folded.values())) == len(wanted)
    for item, place in folded.items():
        assert not any(other[: len(place)] == place for key, other in folded.items() if key != item)
        if windows:
            assert all(windows_name(part) == part for part in places[item])


@given(name=names)
def test_stored_name_is_text_and_is_restored(name: str) -> None:
    stored = to_stored(name)
    assert stored.encode().decode() == stored
    assert from_stored(stored) == name
    assert split(stored) == (name,)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("12:30", "12%3A30"),
        ("IM\\1", "IM%5C1"),
        ("a.", "a%2E"),
        ("a ", "a%20"),
        ("CON", "%43ON"),
        ("con.tar.gz", "%63on.tar.gz"),
        ("CONSOLE", "CONSOLE"),
        ("COM\u00b2", "%43OM\u00b2"),
        ("\u00e9.dcm", "\u00e9.dcm"),
    ],
)
def test_name_that_windows_forbids_is_escaped_there(name: str, expected: str) -> None:
    assert windows_name(name) == expected


def test_versions_of_one_file_share_their_place_and_other_files_do_not() -> None:
    same = [Wanted(("a", "IM1"), "/x/IM1"), Wanted(("a", "IM1"), "/x/IM1"), Wanted(("a", "IM1"), "/y/IM1")]
    places = assign_places(same, windows=False, folding=False)
    assert sorted(places.values()) == [("a", "IM1"), ("a", "IM1~2")]


def test_equal_names_from_two_folders_are_stored_apart(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        build(tmp_path / patient, {"IM0001": patient.encode(), "series": {"IM0001": b"s"}})
    files = survey([tmp_path / "p1" / "IM0001", tmp_path / "p2" / "IM0001"]).found
    assert [item.inside for item in assign_stored_paths(files, Ledger(), None)] == ["p1/IM0001", "p2/IM0001"]
    folders = survey([tmp_path / "p1" / "series", tmp_path / "p2" / "series"]).found
    assert [item.inside for item in assign_stored_paths(folders, Ledger(), None)] == [
        "p1/series/IM0001",
        "p2/series/IM0001",
    ]


def test_name_taken_in_an_earlier_run_is_not_given_again(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        build(tmp_path / patient, {"IM0001": patient.encode()})
    ledger = Ledger()
    ledger.record("ab", Entry(1, "v", "x.sealed", "IM0001", str(tmp_path / "p1" / "IM0001")))
    files = survey([tmp_path / "p1" / "IM0001", tmp_path / "p2" / "IM0001"]).found
    assert [item.inside for item in assign_stored_paths(files, ledger, "v")] == ["IM0001", "p2/IM0001"]
    assert [item.inside for item in assign_stored_paths(files[1:], ledger, "other")] == ["IM0001"]


def test_file_that_became_a_folder_does_not_block_what_is_below_it(tmp_path: Path) -> None:
    build(tmp_path / "in", {"a": {"b": b"x"}})
    ledger = Ledger()
    ledger.record("ab", Entry(1, "v", "x.sealed", "in/a", str(tmp_path / "in" / "a")))
    (item,) = assign_stored_paths(survey([tmp_path / "in"]).found, ledger, "v")
    assert item.inside == f"{tmp_path.name}/in/a/b"


# How a process in a plain C locale sees names whose bytes are UTF-8: Python's own switches to UTF-8 are off.
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("raw", [b"\xc3\xa9.dcm", b"\xff.dcm", b"plain.dcm"])
def test_name_is_stored_and_restored_by_its_bytes_in_any_locale(raw: bytes) -> None:
    stored = to_stored(os.fsdecode(raw))
    script = (
        "import os, sys\n"
        "from cipher.vault.names import from_stored, to_stored\n"
        f"stored = to_stored(os.fsdecode({raw!r}))\n"
        f"assert stored == {stored!a}, ascii(stored)\n"
        f"assert os.fsencode(from_stored({stored!a})) == {raw!r}\n"
        "print(sys.getfilesystemencoding())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **ASCII_LOCALE}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ascii\n", "")


def test_stored_path_that_is_no_unicode_text_is_refused() -> None:
    with pytest.raises(UnsupportedFormat, match="is not one that sealing writes"):
        from_stored("\ud800")
