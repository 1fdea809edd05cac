"""A bundle's file that is replaced under a running server: a worker that starts later reads another head."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from he_infer.errors import RequestRefused
from he_infer.head.bundle import HeadBundle
from he_infer.local_server import LocalServer
from he_infer.wire.refusals import Code
from tests.attacks.kit import FEATURES
from tests.he_infer.server.support.kit import client_of, code_of, is_right, write_bundle
from tests.he_infer.server.support.processes import only_worker


def test_no_answer_of_a_head_that_the_server_did_not_start_with_leaves(tmp_path: Path) -> None:
    served = write_bundle(tmp_path / "chest.hebundle")
    head = HeadBundle.load(served).head
    other = write_bundle(tmp_path / "other.hebundle", seed=2)
    with LocalServer([served], tmp_path / "data", options=["--workers", "1"]) as server, client_of(server) as client:
        assert is_right(client.plan, client.scores(FEATURES), head.evaluate(FEATURES))
        original = tmp_path / "original"
        shutil.copy2(served, original)
        other.replace(served)
        end_worker(server)
        with pytest.raises(RequestRefused) as refused:
            client.scores(FEATURES)
        assert code_of(refused) is Code.UNKNOWN_PLAN
        original.replace(served)  # the operator puts it back
        end_worker(server)
        assert is_right(client.plan, client.scores(FEATURES), head.evaluate(FEATURES))


def end_worker(server: LocalServer) -> None:
    pid = only_worker(server)
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.05)
