"""A vault of sealed objects: names, versions, what is passed over, and what a sealed path may not do."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from cipher.container.api import Options, seal_array, seal_bytes
from cipher.errors import StorageProblem, UnsupportedFormat, WrongKey
from cipher.keys.vault_key import VaultKey
from cipher.vault.work import Found, Protecting, Restoring, Verifying, find_files, holds_sealed

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))


def nothing(_: int) -> None:
    """No progress."""


def found(path: Path) -> Found:
    return find_files([path])[0]


def sealed(folder: Path, path: str) -> Found:
    (folder / "object.sealed").write_bytes(seal_bytes(b"data", KEY, options=Options(private={"path": path})))
    return found(folder / "object.sealed")


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/../../b", ".", "a\0b"])
def test_a_sealed_path_never_leaves_the_folder(path: str, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    with pytest.raises(UnsupportedFormat, match="no place inside"):
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


def test_what_is_found(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("b", "a", "deep/c", ".x.0.he-infer-tmp"):
        (tmp_path / "in" / name).write_text("x")
    assert [file.inside for file in find_files([tmp_path / "in"])] == ["in/a", "in/b", "in/deep/c"]
    assert len(find_files([tmp_path / "in"], leave_out=[tmp_path / "in" / "deep"])) == 2
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "none", "no file or folder"), (tmp_path / "pipe", "neither a file nor a folder")):
        with pytest.raises(StorageProblem, match=why):
            find_files([path])
    assert not holds_sealed(tmp_path / "in" / "a")
    (tmp_path / "broken").write_bytes(seal_bytes(b"x", KEY)[:100])
    assert holds_sealed(tmp_path / "broken")
