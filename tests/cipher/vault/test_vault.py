"""A vault of sealed objects: names, versions, skipped files, and paths that are refused."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cipher.container.api import Options, seal_array, seal_bytes
from cipher.errors import StorageProblem, UnsupportedFormat, WrongKey
from cipher.keys.vault_key import VaultKey
from cipher.vault.checking import Verifying
from cipher.vault.find import Found, Sort, survey
from cipher.vault.forms import holds_sealed
from cipher.vault.protecting import Protecting
from cipher.vault.restoring import Restoring

ROOT = Path(__file__).parents[3]
KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))


def nothing(_: int) -> None:
    """No progress."""


def found(path: Path) -> Found:
    return survey([path]).found[0]


def sealed(folder: Path, path: str) -> Found:
    folder.mkdir(exist_ok=True)
    (folder / "object.sealed").write_bytes(seal_bytes(b"data", KEY, options=Options(private={"path": path})))
    return found(folder / "object.sealed")


@pytest.mark.parametrize(
    "path", ["../up", "/etc/passwd", "a/../../b", ".", "a\0b", "a//b", "\0hex:2e2e2f61", "\0hex:zz"]
)
def test_a_sealed_path_never_leaves_the_folder(path: str, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    with pytest.raises(UnsupportedFormat, match=r"stored path leaves|not one that sealing writes"):
        Restoring(tmp_path / "to" / "deep", KEY)(sealed(tmp_path, path), nothing)
    assert not list((tmp_path / "to").iterdir())


def test_names_are_pseudonyms_under_the_key(tmp_path: Path) -> None:
    (tmp_path / "doe-john.txt").write_text("x")
    one, two = Protecting(tmp_path / "vault", KEY), Protecting(tmp_path / "vault", OTHER)
    file = found(tmp_path / "doe-john.txt")
    assert one.destination(file) == one.destination(file)
    assert one.destination(file) != two.destination(file)
    assert "doe" not in one.destination(file).name


def test_two_files_of_one_name_do_not_meet_in_hidden_names_and_are_refused_in_kept_ones(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.txt").write_text(folder)
    hidden, kept = Protecting(tmp_path / "vault", KEY), Protecting(tmp_path / "kept", KEY, names="kept")
    files = [found(tmp_path / folder / "same.txt") for folder in ("a", "b")]
    assert len({hidden(file, nothing).path for file in files}) == 2
    kept(files[0], nothing)
    with pytest.raises(StorageProblem, match="another file"):
        kept(files[1], nothing)
    assert (tmp_path / "kept" / "same.txt.sealed").exists()


def test_an_object_under_another_key_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("x")
    file = found(tmp_path / "note.txt")
    Protecting(tmp_path / "vault", OTHER, names="kept")(file, nothing)
    before = (tmp_path / "vault" / "note.txt.sealed").read_bytes()
    with pytest.raises(WrongKey, match="is there already"):
        Protecting(tmp_path / "vault", KEY, names="kept")(file, nothing)
    assert (tmp_path / "vault" / "note.txt.sealed").read_bytes() == before


def test_a_sealed_array_is_restored_as_a_numpy_file(tmp_path: Path) -> None:
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    (tmp_path / "array.sealed").write_bytes(seal_array(array, KEY, name="scan"))
    outcome = Restoring(tmp_path / "to", KEY)(found(tmp_path / "array.sealed"), nothing)
    back = np.load(io.BytesIO(Path(outcome.path).read_bytes()), allow_pickle=False)
    assert Path(outcome.path).name == "scan.npy"
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_progress_adds_up_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(os.urandom(100_000))
    moved: list[int] = []
    outcome = Protecting(tmp_path / "vault", KEY)(found(tmp_path / "plain"), moved.append)
    Verifying(KEY)(found(Path(outcome.path)), moved.append)
    assert sum(moved) == 200_000


def test_survey_finds_files_links_and_empty_folders_and_names_the_rest(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "hollow").mkdir()
    for name in ("b", "a", "deep/c", "deep/.x.0123456789abcdef.he-infer-tmp", "deep/mine.he-infer-tmp"):
        (tmp_path / "in" / name).write_text("x")
    (tmp_path / "in" / "link").symlink_to("deep")
    os.mkfifo(tmp_path / "in" / "pipe")
    seen = survey([tmp_path / "in", tmp_path / "in" / "a"])
    assert [(file.inside, file.sort) for file in seen.found] == [
        ("in/a", Sort.FILE),
        ("in/b", Sort.FILE),
        ("in/link", Sort.LINK),
        ("in/deep/c", Sort.FILE),
        ("in/deep/mine.he-infer-tmp", Sort.FILE),
        ("in/hollow", Sort.FOLDER),
    ]
    assert [(path.name, why) for path, why in seen.passed_over] == [
        ("pipe", "a pipe"),
        (".x.0123456789abcdef.he-infer-tmp", "an unfinished write of he-infer"),
    ]
    assert len(survey([tmp_path / "in"], leave_out=[tmp_path / "in" / "deep"]).found) == 4
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "none", "no file or folder"), (tmp_path / "pipe", "neither a file nor a folder")):
        with pytest.raises(StorageProblem, match=why):
            survey([path])
    assert not holds_sealed(tmp_path / "in" / "a")
    (tmp_path / "broken").write_bytes(seal_bytes(b"x", KEY)[:100])
    assert holds_sealed(tmp_path / "broken")


def test_folder_that_cannot_be_listed_does_not_end_the_survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in" / "closed").mkdir(parents=True)
    (tmp_path / "in" / "file").write_text("x")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    seen = survey([tmp_path / "in"])
    assert [file.inside for file in seen.found] == ["in/file"]
    assert [found.inside for found, _ in seen.problems] == ["in/closed"]


@pytest.mark.parametrize("where", ["parent", "file", "dangling"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_restored_through_a_link(where: str, overwrite: bool, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("theirs")
    target = tmp_path / "to"
    (target / "a").mkdir(parents=True)
    if where == "parent":
        (target / "a" / "b").symlink_to(outside)
    else:
        (target / "a" / "b").mkdir()
        (target / "a" / "b" / "file").symlink_to(outside / ("file" if where == "file" else "new"))
    item = sealed(tmp_path / "v", "a/b/file")
    if overwrite and where != "parent":
        assert Restoring(target, KEY, overwrite=True)(item, nothing).did == "restored"
        assert not (target / "a" / "b" / "file").is_symlink()
    else:
        with pytest.raises(StorageProblem, match=r"is a link|is there already"):
            Restoring(target, KEY, overwrite=overwrite)(item, nothing)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("file", "theirs")]


def test_file_of_equal_size_and_time_with_other_content_is_not_taken_for_restored(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("AAAA")
    outcome = Protecting(tmp_path / "vault", KEY)(found(tmp_path / "note"), nothing)
    item = found(Path(outcome.path))
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "note").write_text("BBBB")
    state = (tmp_path / "note").stat()
    os.utime(tmp_path / "to" / "note", ns=(state.st_mtime_ns, state.st_mtime_ns))
    with pytest.raises(StorageProblem, match="another file"):
        Restoring(tmp_path / "to", KEY)(item, nothing)
    (tmp_path / "to" / "note").write_text("AAAA")
    assert Restoring(tmp_path / "to", KEY)(item, nothing).did == "already there"


def test_container_form_needs_no_pydicom(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["pydicom"] = None
from pathlib import Path
from cipher.keys.vault_key import VaultKey
from cipher.vault.checking import Verifying
from cipher.vault.find import survey
from cipher.vault.forms import holds_sealed
from cipher.vault.protecting import Protecting
from cipher.vault.restoring import Restoring
folder, key = Path({str(tmp_path)!r}), VaultKey(bytes(32))
(folder / "scan.dcm").write_bytes(bytes(128) + b"DICM" + bytes(500))
(folder / "note").write_bytes(b"note")
for name in ("scan.dcm", "note"):
    item = survey([folder / name]).found[0]
    made = Protecting(folder / "vault", key, any_file=True)(item, lambda _: None)
    (item,) = survey([Path(made.path)]).found
    Verifying(key)(item, lambda _: None)
    back = Restoring(folder, key)(item, lambda _: None)
    assert back.did == "already there", back
assert not holds_sealed(folder / "scan.dcm")
assert not any(name.startswith("cipher.analysis") for name in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
