"""Atomic writes: all or nothing, private if requested, and never over a file that must stay."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from he_infer import files
from he_infer.machine import usable_cores


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    files.write_json(target, {"accuracy": 0.5})
    with pytest.raises(TypeError):
        files.write_json(target, {"accuracy": object()})
    assert json.loads(target.read_text()) == {"accuracy": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_a_second_text_replaces_the_first(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    files.write_text(target, "one")
    files.write_text(target, "two")
    assert target.read_text(encoding="utf-8") == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_create_only_write_keeps_the_existing_file(tmp_path: Path) -> None:
    target = tmp_path / "key"
    files.write_bytes(target, b"first", mode=files.PRIVATE, replace=False)
    with pytest.raises(FileExistsError):
        files.write_bytes(target, b"second", mode=files.PRIVATE, replace=False)
    assert target.read_bytes() == b"first"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_file_and_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").resolve()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    files.write_bytes(tmp_path / "a", b"1")
    assert len(synced) == 2
    assert synced[1] == str(tmp_path.resolve())


def test_a_name_of_255_bytes_is_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    files.write_bytes(target, b"1")
    assert target.read_bytes() == b"1"


def test_appended_text_is_private_and_in_order(tmp_path: Path) -> None:
    target = tmp_path / "receipts"
    files.append_text(target, "one\n")
    files.append_text(target, "two\n")
    assert target.read_text() == "one\ntwo\n"
    assert target.stat().st_mode & 0o777 == 0o600


def test_cores_are_counted_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_output_that_could_not_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("old")
    files.expect_writable(None, file, folder / "new")
    with pytest.raises(IsADirectoryError, match="folder"):
        files.expect_writable(folder)
    with pytest.raises(FileNotFoundError, match="missing"):
        files.expect_writable(tmp_path / "missing" / "new")
    with pytest.raises(FileNotFoundError, match="file"):
        files.expect_writable(file / "new")
    assert file.read_text() == "old"


def test_output_in_a_read_only_folder_is_refused_for_an_ordinary_user() -> None:
    """As root the program gives up its rights first: root may write everywhere."""
    script = (
        "import os, sys; from pathlib import Path; from he_infer import files\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "try: files.expect_writable(Path(sys.argv[1]))\n"
        "except PermissionError as error: print(error.filename)"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)  # other users may enter it too
        done = subprocess.run(
            [sys.executable, "-c", script, folder / "new"], capture_output=True, text=True, check=True, timeout=300
        )
        folder.chmod(0o755)
    assert done.stdout.strip() == str(folder / "new")


def test_name_of_85_wide_characters_is_written(tmp_path: Path) -> None:
    target = tmp_path / ("\u80f8" * 85)  # 255 bytes
    files.expect_writable(target)
    files.write_bytes(target, b"1")
    assert target.read_bytes() == b"1"


def test_pipe_and_open_file_are_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.expect_writable(pipe)
        files.write_json(pipe, {"a": 1})
        assert json.loads(os.read(reader, 100)) == {"a": 1}
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    with (tmp_path / "open").open("wb") as opened:
        link = tmp_path / "stdout"
        link.symlink_to(f"/proc/self/fd/{opened.fileno()}")
        files.write_text(link, "text")
        files.write_text(Path(f"/dev/fd/{opened.fileno()}"), "text")
    assert link.is_symlink()
    assert (tmp_path / "open").read_text() == "text"
    files.write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_full_device_is_reported_and_stays(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        files.write_text(Path("/dev/full"), "text")
    assert Path("/dev/full").is_char_device()


def test_link_to_a_plain_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_text("stays")
    (tmp_path / "results").symlink_to("foreign")
    files.write_text(tmp_path / "results", "new")
    assert ((tmp_path / "foreign").read_text(), (tmp_path / "results").read_text()) == ("stays", "new")


@pytest.mark.parametrize(
    ("name", "error"),
    [("missing/a.json", FileNotFoundError), ("folder", IsADirectoryError), ("n" * 300, OSError), ("file/a", OSError)],
)
def test_output_that_cannot_be_written_fails_before_the_work(name: str, error: type[OSError], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(error):
        files.expect_writable(None, tmp_path / "good.json", tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_file_name_that_is_no_utf8_is_an_escape_in_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    files.write_json(tmp_path / "a.json", {"path": name})
    files.append_text(tmp_path / "a.txt", name)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"path": name}
    assert (tmp_path / "a.txt").read_text() == "\\udcff.png"


def test_create_only_write_works_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    files.write_bytes(tmp_path / "key", b"first", mode=files.PRIVATE, replace=False)
    with pytest.raises(FileExistsError):
        files.write_bytes(tmp_path / "key", b"second", mode=files.PRIVATE, replace=False)
    assert (tmp_path / "key").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
