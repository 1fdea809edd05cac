"""Choice of a server's engine, and its message if the faster one cannot be used."""

import signal
import sys
import time
from pathlib import Path
from threading import Timer

import pytest

from he_infer.ckks.engines import choice
from he_infer.ckks.engines.choice import EngineChoice, EngineWish, choose_engine
from he_infer.ckks.engines.native.code_cache import default_folder
from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.ckks.engines.seal import SealEngine
from he_infer.ckks.parameters import Parameters
from he_infer.errors import UsageError

NATIVE = find_obstacle() is None
needs_native = pytest.mark.skipif(not NATIVE, reason="no native engine on this machine")


def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Replace the interpreter that runs the self-test by a script."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


@needs_native
def test_native_engine_is_taken_where_it_passes_its_self_test() -> None:
    found = choose_engine(EngineWish.AUTO, default_folder(), lambda line: None)
    assert (found.name, found.code) == ("native", default_folder())
    assert isinstance(found.make(Parameters(4096, (36, 34, 36))), NativeEngine)


@needs_native
def test_primes_of_more_than_50_bits_are_left_to_seal() -> None:
    assert isinstance(EngineChoice(default_folder()).make(Parameters(8192, (60, 40, 60))), SealEngine)


def test_seal_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    found = choose_engine(EngineWish.SEAL, tmp_path / "code", print)
    assert found.name == "seal"
    assert isinstance(found.make(Parameters(4096, (36, 34, 36))), SealEngine)
    assert not (tmp_path / "code").exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ('echo \'{"obstacle": "numba not installed", "seconds": 0.1}\'', "numba not installed"),
        ("kill -ABRT $$", "without a result"),
        ("kill -ILL $$", "without a result"),
        ("echo Aborted; exit 1", "without a result"),
        ("echo '[]'", "without a result"),
        ("exit 0", "without a result"),
        ("exec sleep 60", "took longer"),
    ],
)
def test_server_falls_back_to_seal_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    script(tmp_path, monkeypatch, code)
    monkeypatch.setattr(choice, "_SECONDS", 2.0)
    monkeypatch.setattr(choice, "_JOIN_SECONDS", 0.1)
    lines: list[str] = []
    assert choose_engine(EngineWish.AUTO, tmp_path / "code", lines.append).name == "seal"
    assert reason in lines[-1]
    with pytest.raises(UsageError, match=f"{reason}.*--engine auto"):
        choose_engine(EngineWish.NATIVE, tmp_path / "code", lines.append)


@needs_native
def test_folder_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UsageError, match="chmod 700"):
        choose_engine(EngineWish.NATIVE, folder, lambda line: None)


def test_signal_during_self_test_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(choice, "_JOIN_SECONDS", 0.1)
    Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        choose_engine(EngineWish.AUTO, tmp_path / "code", lambda line: None)
    assert time.monotonic() - started < 30


def test_progress_is_relayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, monkeypatch, 'echo "compiling" >&2; echo \'{"obstacle": null}\'')
    lines: list[str] = []
    assert choose_engine(EngineWish.AUTO, tmp_path, lines.append).name == "native"
    assert lines == ["compiling"]
