"""A server on the native engine: the same scores, all workers alike, and the engine stated."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.errors import RequestRefused
from he_infer.head.bundle import HeadBundle
from he_infer.local_server import LocalServer
from he_infer.wire.refusals import Code
from tests.he_infer.server.support.kit import Client, client_of, code_of, is_right

pytestmark = pytest.mark.skipif(find_obstacle() is not None, reason="no native engine on this machine")


@pytest.fixture(scope="module")
def native(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    options = ["--engine", "native", "--workers", "2"]
    with LocalServer([bundle], tmp_path_factory.mktemp("native") / "data", options=options) as running:
        yield running


@pytest.fixture(scope="module")
def native_client(native: LocalServer) -> Iterator[Client]:
    with client_of(native) as connected:
        yield connected


def test_scores_are_those_of_the_clear_head(native_client: Client, bundle: Path) -> None:
    head = HeadBundle.load(bundle).head
    for seed in range(6):  # more requests than workers
        features = np.random.default_rng(seed).uniform(-1, 1, (1, 32))
        assert is_right(native_client.plan, native_client.scores(features), head.evaluate(features))


def test_server_states_its_engine_and_logs_it(native: LocalServer) -> None:
    assert httpx2.get(f"{native.url}/v1/info").json()["engine"] == "native"
    lines = [json.loads(line) for line in native.log_path.read_text().splitlines() if line.startswith("{")]
    assert {"native"} == {line["engine"] for line in lines if line.get("event") == "engine" and "engine" in line}


def test_malformed_ciphertext_is_refused_and_the_worker_survives(native: LocalServer, native_client: Client) -> None:
    features = np.full((1, 32), 0.5)
    good = native_client.encrypt(features)
    workers = _settled_workers(native)
    assert workers
    for bad in (b"", good[0][:-1], good[0] + b"\0", b"HEC\3" + good[0][4:], good[0][:4] + b"\xff" * (len(good[0]) - 4)):
        with pytest.raises(RequestRefused) as refused:
            native_client.session.classify(
                native_client.model, native_client.plan, native_client.key_set, [bad, *good[1:]]
            )
        assert code_of(refused) is Code.BAD_CIPHERTEXT
    assert _workers(native) == workers
    assert native_client.scores(features).shape == (1, 3)


def _settled_workers(server: LocalServer) -> set[str]:
    """The workers once the process that tried the keys has ended: the set that stays the same for a second."""
    found, same = _workers(server), 0
    while same < 10:
        time.sleep(0.1)
        now = _workers(server)
        found, same = now, same + 1 if now == found else 0
    return found


def _workers(server: LocalServer) -> set[str]:
    """Process ids of the workers: grandchildren of the server, by way of the fork server."""
    found = set()
    for child in _children(server.pid):
        found |= set(_children(int(child)))
    return found


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_server_started_with_seal_states_seal(server: LocalServer) -> None:
    assert httpx2.get(f"{server.url}/v1/info").json()["engine"] == "seal"
