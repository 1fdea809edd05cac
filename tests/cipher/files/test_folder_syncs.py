"""Folders of new files are flushed once, before the files are acknowledged."""

import copy
import importlib.util
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cipher.errors import StorageProblem
from cipher.files.atomic import write_bytes
from cipher.files.folder_syncs import FolderSyncs
from cipher.files.tree import enter, make_folder
from cipher.keys.vault_key import VaultKey
from cipher.vault.find import survey
from cipher.vault.outcome import Did
from cipher.vault.protecting import Protecting
from cipher.vault.tally import work_on

Flushes = Callable[[], list[Path]]


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> Flushes:
    """The folders flushed since the last call."""
    folders: list[Path] = []
    flush = os.fsync

    def record(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            folders.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", record)

    def take() -> list[Path]:
        taken = folders.copy()
        folders.clear()
        return taken

    return take


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="the test reads a descriptor's path in /proc"
)


def test_folder_is_flushed_with_each_file_unless_collected(tmp_path: Path, flushed: Flushes) -> None:
    syncs = FolderSyncs()
    write_bytes(tmp_path / "one", b"1")
    assert flushed() == [tmp_path]
    write_bytes(tmp_path / "two", b"2", syncs=syncs)
    write_bytes(tmp_path / "three", b"3", syncs=syncs)
    assert flushed() == []
    syncs.finish()
    assert flushed() == [tmp_path]
    syncs.finish()
    assert flushed() == []


def test_copy_for_another_process_collects_nothing(tmp_path: Path, flushed: Flushes) -> None:
    syncs = copy.copy(FolderSyncs())  # by the same methods as a worker process gets it
    write_bytes(tmp_path / "one", b"1", syncs=syncs)
    assert flushed() == [tmp_path]


def test_folder_that_cannot_be_flushed_is_named(tmp_path: Path) -> None:
    syncs, gone = FolderSyncs(), tmp_path / "gone"
    gone.mkdir()
    syncs.add(gone)
    gone.rmdir()
    with pytest.raises(StorageProblem, match=r"gone.*run the same command again"):
        syncs.finish()


def test_new_folder_is_flushed_with_its_name(tmp_path: Path, flushed: Flushes) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    assert flushed() == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    make_folder(tmp_path / "a" / "b" / "c")
    assert flushed() == []
    with enter(tmp_path / "a", ("b", "d", "e")):
        pass
    assert flushed() == [tmp_path / "a" / "b", tmp_path / "a" / "b" / "d"]
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for place in ("file", "link", "file/below"):
        with pytest.raises(StorageProblem, match="Cannot make the folder"):
            make_folder(tmp_path / place)


@pytest.mark.parametrize("jobs", [1, 4])
def test_vault_is_flushed_after_the_last_object_and_before_the_tally(
    jobs: int, tmp_path: Path, flushed: Flushes
) -> None:
    source, vault = tmp_path / "plain", tmp_path / "vault"
    source.mkdir()
    for number in range(6):
        (source / f"{number}.txt").write_bytes(bytes([number]) * 5000)
    syncs, seen = FolderSyncs(), []

    def count(done: int, _: int) -> None:
        seen.append((done, flushed().count(vault)))

    work = Protecting(vault, VaultKey.generate(), syncs=syncs)
    tally = work_on("protect", work, survey([source]).found, jobs=jobs, syncs=syncs, progress=count)
    assert tally.count(Did.SEALED) == 6
    assert seen[-1][0] == 6
    assert sum(flushes for _, flushes in seen) == 0
    if jobs == 1 or importlib.util.find_spec("numba") is not None:  # without numba, processes flush by themselves
        assert flushed().count(vault) == 1
