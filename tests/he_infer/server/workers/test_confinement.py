"""A confined worker: each forbidden operation is tried in a separate process and fails."""

import os
import subprocess
import sys

import pytest

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
