"""A confined worker: each forbidden operation is tried in a separate process and fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from he_infer.server.workers.limits import WorkerConfig
from he_infer.server.workers.pool import WorkerPool
from he_infer.wire.refusals import Refused
from tests.he_infer.server.support.bench import leave_another_fork_server
from tests.he_infer.server.support.burglar import SECRETS, run_burglar

CONFINED = """
import os, signal, socket, sys
from he_infer.server.workers.confinement import confine
missing = confine()
assert missing == [], missing
"""


def confined(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CONFINED + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the locks are Linux's")
@pytest.mark.parametrize(
    "deed",
    [
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socketpair()",
        "open('/etc/passwd').read()",
        "open('/proc/self/environ').read()",
        "open('/tmp/he-infer-written', 'w')",
        "os.listdir('/')",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 0)",
        "os.mkdir('/tmp/he-infer-made')",
        "os.unlink(sys.executable)",
    ],
)
def test_forbidden_operation_in_confined_process_fails(deed: str) -> None:
    done = confined(f"try:\n    {deed}\nexcept OSError:\n    sys.exit(7)\n")
    assert done.returncode == 7, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the locks are Linux's")
def test_a_confined_process_still_computes_with_seal() -> None:
    code = """
import json, decimal
from he_infer.ckks.engines.seal import SealEngine, dump, parse, sealapi
from he_infer.ckks.parameters import Parameters
descriptor = os.memfd_create("x")
with open(f"/proc/self/fd/{descriptor}", "wb") as file:
    file.write(b"written")
"""
    done = confined(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the locks are Linux's")
def test_a_bundle_that_takes_a_worker_over_reads_neither_keys_nor_data_nor_home(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    for folder in (data, home):
        folder.mkdir()
    for name in SECRETS:
        (data / name).write_text("a secret")
    (home / "notes.txt").write_text("a secret")
    # The server is started in its data folder, which Python then searches for modules.
    monkeypatch.chdir(data)
    monkeypatch.syspath_prepend(str(data))
    monkeypatch.setenv("HOME", str(home))
    leave_another_fork_server(also_own=True)
    pool = WorkerPool(WorkerConfig((bundle,)), workers=1, queue=1, wall_seconds=20.0, entry=run_burglar)
    try:
        with pytest.raises(Refused) as refused:
            pool.start()
    finally:
        pool.drain(0.0)
        leave_another_fork_server(also_own=True)
    assert refused.value.message == "It got: the bundle."
