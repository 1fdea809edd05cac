"""Hanging workers, a full queue, and the end of the server. Other faults are in tests/faults."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from he_infer.client.connection.session import Session
from he_infer.errors import HeInferError, RequestRefused, ServerBusy
from he_infer.local_server import LocalServer
from he_infer.server.metadata import Metadata
from he_infer.server.service import DATABASE_FILE
from he_infer.wire.refusals import Code
from tests.he_infer.server.support.kit import Client, client_of, code_of
from tests.he_infer.server.support.processes import only_worker, worker_pids


@contextmanager
def stopped_worker(bundle: Path, folder: Path) -> Iterator[tuple[Client, int]]:
    """A client of a server whose one worker is stopped, and the worker's process id."""
    with LocalServer([bundle], folder, options=["--workers", "1"]) as server, client_of(server) as client:
        pid = only_worker(server)
        os.kill(pid, signal.SIGSTOP)
        yield client, pid


def test_a_worker_that_hangs_is_killed_at_its_limit(
    bundle: Path, tmp_path: Path, features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HE_INFER_SERVER_WALL_SECONDS", "1")
    with stopped_worker(bundle, tmp_path / "data") as (client, _):
        with pytest.raises(RequestRefused) as error:
            client.scores(features)
        assert code_of(error) is Code.WORKER_LIMIT
        assert client.scores(features).shape == (1, 3)


def test_a_full_queue_answers_429_and_accepted_requests_finish(
    bundle: Path, tmp_path: Path, features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HE_INFER_SERVER_QUEUE", "2")
    # Stopped, so that tasks pile up, however fast the machine is.
    with stopped_worker(bundle, tmp_path / "data") as (client, pid):
        parts = client.encrypt(features)
        outcomes: list[str] = []

        def ask() -> None:
            with Session(client.server.url, client.token, patience=0) as own:
                try:
                    own.classify(client.model, client.plan, client.key_set, parts)
                    outcomes.append("ok")
                except ServerBusy as busy:
                    outcomes.append("busy" if busy.retry_after >= 1 else "busy without a time")

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while outcomes.count("busy") < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(pid, signal.SIGCONT)
        for thread in threads:
            thread.join(timeout=60)
        assert sorted(outcomes) == ["busy"] * 5 + ["ok"] * 3


def test_sigterm_finishes_what_was_accepted(bundle: Path, tmp_path: Path, features: np.ndarray) -> None:
    server = LocalServer([bundle], tmp_path / "data", options=["--workers", "1"]).start()
    with client_of(server, patience=0) as client:
        pid = only_worker(server)
        os.kill(pid, signal.SIGSTOP)
        parts = client.encrypt(features)
        outcomes: list[object] = []

        def ask() -> None:
            outcomes.append(client.session.classify(client.model, client.plan, client.key_set, parts))

        thread = threading.Thread(target=ask)
        thread.start()
        deadline = time.monotonic() + 20
        metadata = Metadata.sqlite(server.data_dir / DATABASE_FILE)
        (owner,) = {record.client_id for record in metadata.tokens.list_all()}
        while metadata.queries.count(owner, int(time.time() // 86400)) < 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        metadata.close()
        os.kill(server.pid, signal.SIGTERM)
        time.sleep(0.3)
        os.kill(pid, signal.SIGCONT)
        thread.join(timeout=60)
        assert len(outcomes) == 1
    assert server.stop() == 0


def test_workers_end_with_the_server_even_when_it_is_killed(bundle: Path, tmp_path: Path) -> None:
    server = LocalServer([bundle], tmp_path / "data", options=["--workers", "2"]).start()
    pids = worker_pids(server)
    assert pids
    server.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def raw_request(server: LocalServer, head: str) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.sendall(head.encode())
    return connection


def begin_classify(client: Client, length: int) -> socket.socket:
    """Open a classification whose body does not come."""
    return raw_request(
        client.server,
        f"POST /v1/models/{client.model.id}/classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {client.token}\r\nContent-Length: {length}\r\n\r\n",
    )


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_missing_body_is_cut_off_in_time_and_blocks_nobody(
    bundle: Path, tmp_path: Path, features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HE_INFER_SERVER_BODY_SECONDS", "2")
    monkeypatch.setenv("HE_INFER_SERVER_BODIES_IN_MEMORY", str(16 << 20))
    monkeypatch.setenv("HE_INFER_SERVER_MAX_REQUEST", str(16 << 20))
    monkeypatch.setenv("HE_INFER_SERVER_MAX_KEYS", str(16 << 20))
    options = ["--workers", "1"]
    with LocalServer([bundle], tmp_path / "data", options=options) as server, client_of(server) as client:
        with begin_classify(client, 4096) as slow:
            assert client.scores(features).shape == (1, 3)
            assert b" 408 " in read_all(slow).splitlines()[0]
        assert client.scores(features).shape == (1, 3)


def test_a_restart_loses_no_request_of_a_patient_client(bundle: Path, tmp_path: Path, features: np.ndarray) -> None:
    server = LocalServer([bundle], tmp_path / "data", options=["--workers", "1"]).start()
    options = ["--workers", "1", "--port", server.url.rpartition(":")[2]]
    with client_of(server, patience=60) as client:
        answered, failed = 0, []
        done = threading.Event()

        def ask() -> None:
            nonlocal answered
            while not done.is_set():
                try:
                    client.scores(features)
                    answered += 1
                except HeInferError as error:
                    failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert server.stop() == 0
        again = LocalServer([bundle], tmp_path / "data", token=server.token, options=options).start()
        before = answered
        deadline = time.monotonic() + 60
        while answered < before + 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        done.set()
        thread.join(timeout=60)
        again.stop()
        assert failed == []
        assert answered >= before + 3
