"""A server that cannot start says why in one line."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from he_infer.ckks.engines.native.code_cache import find_code_folder
from he_infer.errors import (
    ServerError,
)
from he_infer.local_server import LocalServer
from he_infer.server.settings import load_settings
from he_infer.server.slow_steps import say_if_slow
from tests.he_infer.server.support.kit import write_mlp
from tests.he_infer.server.support.processes import worker_pids


def failing(*bundles: Path, data_dir: Path, options: tuple[str, ...] = ()) -> str:
    with pytest.raises(ServerError) as error:
        LocalServer(list(bundles), data_dir, options=list(options)).start()
    return str(error.value)


def test_a_bundle_that_is_missing_is_named(tmp_path: Path) -> None:
    assert "none.hebundle" in failing(tmp_path / "none.hebundle", data_dir=tmp_path / "data")


def test_file_that_is_not_a_bundle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.hebundle"
    path.write_text("this is a text")
    assert "is not a bundle" in failing(path, data_dir=tmp_path / "data")


def test_a_bundle_of_another_version_is_named(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    path = make_bundle(tmp_path / "new.hebundle", version=4)
    assert "version 3" in failing(path, data_dir=tmp_path / "data")


def test_a_bundle_with_numbers_that_no_plan_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.hebundle"
    rng = np.random.default_rng(1)
    layers = (rng.normal(0, 1e160, (8, 32)), np.zeros(8)), (rng.normal(0, 1.0, (3, 8)), np.zeros(3))
    write_mlp(path, layers, name="large", classes=["a", "b", "c"], input_bound=1.0)
    assert "too large" in failing(path, data_dir=tmp_path / "data")


def test_the_same_model_twice_is_refused(tmp_path: Path, bundle: Path) -> None:
    assert "twice" in failing(bundle, bundle, data_dir=tmp_path / "data")


def test_a_data_folder_open_to_others_is_refused(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    assert "chmod 700" in failing(bundle, data_dir=tmp_path / "data")


def test_a_port_that_is_taken_is_named(tmp_path: Path, bundle: Path, server: LocalServer) -> None:
    port = server.url.rpartition(":")[2]
    assert "Cannot listen" in failing(bundle, data_dir=tmp_path / "data", options=("--port", port))


def test_a_start_that_waits_for_the_database_says_so(tmp_path: Path, bundle: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    server = LocalServer([bundle], data, options=["--workers", "1"])
    with closing(sqlite3.connect(data / "metadata.sqlite3")) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("PRAGMA journal_mode=WAL")
        holder.execute("BEGIN EXCLUSIVE")
        started = threads.submit(server.start)
        while not (server.log_path.exists() and "waiting for the database" in server.log_path.read_text()):
            assert not started.done()
            time.sleep(0.05)
        holder.rollback()
        started.result(timeout=120)
    server.stop()


def test_a_step_of_the_start_is_named_only_where_it_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    with say_if_slow("nothing"):
        pass
    said = ""
    with say_if_slow("the tide", 0.0):
        while "tide" not in said:
            captured = capsys.readouterr()
            said += captured.out + captured.err
    assert "nothing" not in said


def test_machine_code_lies_in_the_users_cache_folder_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_code_folder(tmp_path / "data") == tmp_path / "he-infer" / "native"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    assert find_code_folder(tmp_path / "data") == tmp_path / "data" / "native"


def test_server_process_loads_neither_seal_numpy_nor_torch(server: LocalServer) -> None:
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    assert "_sealapi" not in maps
    assert "numpy" not in maps
    for pid in [server.pid, *worker_pids(server)]:
        assert "torch" not in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("--token-file", None, "No such file or directory"),
        ("--token-file", "folder", "Is a directory"),
        ("--token-file", b"\xef\xbb\xbfhei_x\n", "does not hold a token"),
        ("--token-file", "hei_x\n".encode("utf-16"), "does not hold a token"),
        ("--port-file", None, "does not exist. Make it first"),
        ("--port-file", "folder", "Is a directory"),
        ("--record-dir", b"a file", "File exists"),
    ],
)
def test_a_wrong_file_ends_the_start_in_one_line(
    tmp_path: Path, bundle: Path, option: str, content: bytes | str | None, said: str
) -> None:
    path = tmp_path / "missing" / "file" if content is None else tmp_path / "given"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    command = [sys.executable, "-m", "he_infer", "serve", str(bundle), "--port", "0", "--workers", "1"]
    command += ["--data-dir", str(tmp_path / "data"), option, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert str(path) in last
    assert "Traceback" not in done.stderr + done.stdout


def test_the_port_file_is_there_only_while_the_server_answers(tmp_path: Path, bundle: Path) -> None:
    port = tmp_path / "port"
    port.write_text("1\n")  # a killed server's
    command = [sys.executable, "-m", "he_infer", "serve", str(bundle), "--port", "0", "--workers", "1"]
    command += ["--engine", "seal", "--data-dir", str(tmp_path / "data"), "--port-file", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        address = next(line for line in process.stdout if "ready on" in line).rsplit(maxsplit=1)[1]
        assert address.endswith(f":{port.read_text().strip()}")
        process.terminate()
    assert process.returncode == 0
    assert not port.exists()


STOPPED_AT = """
import os, signal, sys
if __name__ == "__main__":
    import he_infer.server.main as m
    where, number = sys.argv.pop(), getattr(signal, sys.argv.pop())
    owner, name = {"import": (m, "configure_logging"), "workers": (m, "raise_descriptor_limit"),
                   "handlers": (m._Server, "run"), "startup": (m._Server, "startup")}[where]
    real = getattr(owner, name)
    def now(*args, **more):
        os.kill(os.getpid(), number)
        return real(*args, **more)
    setattr(owner, name, now)
    m.main()
"""


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("import", "SIGINT"),
        ("workers", "SIGTERM"),
        ("workers", "SIGINT"),
        ("handlers", "SIGTERM"),
        ("startup", "SIGTERM"),
    ],
)
def test_a_signal_at_any_moment_of_the_start_ends_it_in_one_line(
    tmp_path: Path, bundle: Path, number: str, where: str
) -> None:
    script = tmp_path / "start.py"
    script.write_text(STOPPED_AT)
    settings = load_settings(bundles=(bundle,), data_dir=tmp_path / "data", port=0, workers=1)
    environment = {**os.environ, "HE_INFER_SERVE": settings.model_dump_json()}
    command = [sys.executable, str(script), number, where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: stopped")
    assert "Traceback" not in done.stderr
    assert "ready" not in done.stdout


def test_python_start_reads_settings_from_a_file(tmp_path: Path, bundle: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'bundles = ["{bundle}"]\nworkers = 1\nqueue = 0\n')
    command = ["-m", "he_infer", "serve", "--config", str(config), "--data-dir", str(tmp_path / "data")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "queue" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_local_server_keeps_the_port_files_folder_until_it_answers(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server flushes that folder after the port file is there, and ends if it is gone."""
    made, kept = list[Path](), list[bool]()

    class Folder(tempfile.TemporaryDirectory[str]):
        def __enter__(self) -> str:
            made.append(Path(super().__enter__()))
            return str(made[-1])

    class Watching(httpx2.Client):
        def get(self, *arguments: Any, **options: Any) -> httpx2.Response:
            answer = super().get(*arguments, **options)
            kept.append(made[-1].is_dir())
            return answer

    monkeypatch.setattr(tempfile, "TemporaryDirectory", Folder)
    monkeypatch.setattr(httpx2, "Client", Watching)
    with LocalServer([bundle], tmp_path / "data", options=["--workers", "1", "--engine", "seal"]):
        assert kept == [True]
    assert not made[0].exists()
