"""Machine code is loaded only from a private folder, and only if it is unchanged."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from he_infer.ckks.engines.native import code_cache
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.errors import UsageError


def test_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "native"
    code_cache.check_private(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o720, 0o702, 0o777, 0o755])
def test_folder_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "native"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UsageError, match="chmod 700"):
        code_cache.check_private(folder)


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="symbolic link"):
        code_cache.check_private(tmp_path / "link")


def test_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "native"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(UsageError, match="another user"):
        code_cache.check_private(folder)


def write_entry(place: Path) -> None:
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "code.nbc").write_bytes(b"machine code" * 100)
    (place / "sub" / "code.nbi").write_bytes(b"index")
    code_cache._write_manifest(place)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place: (place / "sub" / "code.nbc").write_bytes(b"machine code" * 50),
        lambda place: (place / "sub" / "code.nbc").write_bytes(b""),
        lambda place: (place / "sub" / "code.nbc").write_bytes(b"Machine code" * 100),
        lambda place: (place / "sub" / "code.nbi").unlink(),
        lambda place: (place / "sub" / "more.nbc").write_bytes(b"foreign"),
        lambda place: ((place / "sub" / "code.nbi").unlink(), (place / "sub" / "code.nbi").symlink_to("code.nbc")),
        lambda place: (place / "manifest.json").unlink(),
        lambda place: (place / "manifest.json").write_text("{}"),
        lambda place: (place / "manifest.json").write_text("{" + '"a":' * 10_000),
        lambda place: (place / "manifest.json").write_text("[" * 100_000),
        lambda place: (place / "manifest.json").write_bytes(b"\xff\xfe"),
    ],
)
def test_changed_machine_code_is_not_loaded(tmp_path: Path, spoil: object) -> None:
    place = tmp_path / "entry"
    write_entry(place)
    assert code_cache.is_whole(place)
    spoil(place)  # type: ignore[operator]  # a parameter of many types
    assert not code_cache.is_whole(place)


def test_truncated_cache_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    def build(place: Path) -> object:
        built.append(place)
        if place.suffix == ".building":
            (place / "code.nbc").write_bytes(b"machine code")
        return object()

    monkeypatch.setattr(code_cache, "_compile", build)
    said: list[str] = []
    code_cache._open(tmp_path, said.append)
    code_cache._open(tmp_path, said.append)
    entry = tmp_path / code_cache.fingerprint()
    building = tmp_path / f"{entry.name}.building"
    assert built == [building, entry]
    (entry / "code.nbc").write_bytes(b"machine")
    building.mkdir()
    code_cache._open(tmp_path, said.append)
    assert built[2:] == [building]
    assert (entry / "code.nbc").read_bytes() == b"machine code"
    assert len(said) == 2


def test_old_versions_are_removed_but_for_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_cache, "_compile", lambda place: object())
    for number in range(12):
        old = tmp_path / f"version{number}"
        old.mkdir()
        os.utime(old, (number, number))
    code_cache._open(tmp_path, None)
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".lock"} == {
        code_cache.fingerprint(),
        *(f"version{number}" for number in range(5, 12)),
    }


def test_compilation_of_another_version_is_neither_waited_for_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_cache, "_compile", lambda place: object())
    monkeypatch.setattr(code_cache, "_loaded", {})
    (tmp_path / "native" / "other.building").mkdir(parents=True)
    (tmp_path / "native" / "stopped.building").mkdir()
    (tmp_path / "native").chmod(0o700)
    said: list[str] = []
    with code_cache._locked(tmp_path / "native" / "other.lock", said.append):
        code_cache.load_kernels(tmp_path / "native", said.append)
    assert (tmp_path / "native" / "other.building").exists()
    assert not (tmp_path / "native" / "stopped.building").exists()
    assert len(said) == 1


def test_waiting_for_the_same_version_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    waited = threading.Event()

    def note(line: str) -> None:
        said.append(line)
        waited.set()

    def wait() -> None:
        with code_cache._locked(tmp_path / "one.lock", note):
            said.append("got it")

    with code_cache._locked(tmp_path / "one.lock", None):
        other = threading.Thread(target=wait)
        other.start()
        assert waited.wait(timeout=60)
    other.join(timeout=60)
    assert said == ["another process is compiling the native engine; waiting for its result", "got it"]


@pytest.mark.slow  # compiles twice: a minute of processor time
def test_process_survives_every_truncation_of_real_machine_code(tmp_path: Path, kernels: Kernels) -> None:
    """Without the check, numba ends with "Aborted" on some of these, so each is tried in a process of its own."""
    script = (
        "import sys; from pathlib import Path\n"
        "from he_infer.ckks.engines.native.code_cache import load_kernels\n"
        "from he_infer.ckks.engines.native.self_test import check_kernels\n"
        "check_kernels(load_kernels(Path(sys.argv[1]), print))\n"
    )

    def start() -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "native")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "compiling" in start()
    assert "compiling" not in start()
    largest = max((tmp_path / "native").rglob("*.nbc"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    largest.write_bytes(bytes(data[: len(data) * 3 // 4]))
    assert "compiling" in start()
