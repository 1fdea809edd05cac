"""Logs, metrics, health routes, audit log and recordings of a running server."""

import json
import re
from pathlib import Path

import httpx2
import numpy as np
import pytest

from he_infer.errors import RequestRefused
from he_infer.local_server import LocalServer
from he_infer.server import tokens
from he_infer.server.evidence import audit_log as audit
from he_infer.server.metadata import Metadata
from he_infer.server.service import AUDIT_FILE, DATABASE_FILE
from he_infer.wire import envelope as wire
from he_infer.wire.refusals import Code
from tests.he_infer.server.support.kit import Client, add_token, client_of, refusal


def test_the_log_has_request_ids_and_neither_payload_nor_token(
    server: LocalServer, client: Client, features: np.ndarray
) -> None:
    client.scores(features)
    lines = [line for line in server.log_path.read_text().splitlines() if line.startswith("{")]
    entries = [json.loads(line) for line in lines]
    requests = [entry for entry in entries if entry["event"] == "request"]
    assert all(len(entry["request_id"]) == 16 and entry["status"] for entry in requests)
    assert server.token not in server.log_path.read_text()


def test_the_audit_log_verifies_while_the_server_runs(
    server: LocalServer, client: Client, features: np.ndarray
) -> None:
    client.scores(features)
    path = server.data_dir / AUDIT_FILE
    actions = {json.loads(line)["action"] for line in path.read_bytes().splitlines()}
    assert {"token.add", "keys.register", "classify"} <= actions
    assert audit.verify(path).entries > 2


def test_metrics_count_by_route_and_outcome(server: LocalServer, client: Client, features: np.ndarray) -> None:
    token = add_token(server, "operator", tokens.Scope.ADMIN)
    client.scores(features)
    text = httpx2.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {token}"}).text
    assert 'he_infer_requests_total{outcome="ok",route="/v1/models/{model}/classify"}' in text
    assert "he_infer_queue_waiting 0.0" in text
    assert "he_infer_workers 1.0" in text
    assert re.search(r'he_infer_build\{seal="tenseal-[^"]+",version="[^"]+"\} 1.0', text)
    assert re.search(r"he_infer_data_free_bytes [1-9]", text)
    assert "process_resident_memory_bytes" in text


def test_readiness_asks_the_stores_and_liveness_does_not(bundle: Path, tmp_path: Path) -> None:
    with LocalServer([bundle], tmp_path / "data", options=["--workers", "1"]) as server:
        assert httpx2.get(f"{server.url}/readyz").json() == {"status": "ready"}
        (server.data_dir / "blobs").rename(tmp_path / "away")
        answer = httpx2.get(f"{server.url}/readyz")
        assert refusal(answer) is Code.STORAGE
        assert answer.headers["Retry-After"]
        assert httpx2.get(f"{server.url}/healthz").json() == {"status": "ok"}
        (tmp_path / "away").rename(server.data_dir / "blobs")
        assert httpx2.get(f"{server.url}/readyz").json() == {"status": "ready"}


def test_recorded_bodies_equal_the_transmitted_ones(bundle: Path, tmp_path: Path, features: np.ndarray) -> None:
    seen = tmp_path / "seen"
    with (
        LocalServer([bundle], tmp_path / "data", record_dir=seen, options=["--workers", "1"]) as server,
        client_of(server) as client,
    ):
        client.scores(features)
    names = [path.name for path in seen.iterdir()]
    (request,) = [name for name in names if name.endswith("classify-received.bin")]
    (answer,) = [name for name in names if name.endswith("classify-sent.bin")]
    received = wire.Envelope.decode((seen / request).read_bytes(), kind=wire.Kind.REQUEST, max_bytes=1 << 30)
    assert len(received.parts) == len(client.encrypt(features))
    wire.Envelope.decode((seen / answer).read_bytes(), kind=wire.Kind.ANSWER, max_bytes=1 << 30)


def test_client_without_own_limits_gets_those_of_the_settings(
    bundle: Path, tmp_path: Path, features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HE_INFER_SERVER_DAILY_QUERIES", "2")
    monkeypatch.setenv("HE_INFER_SERVER_STORAGE_QUOTA", "7000000")
    with (
        LocalServer([bundle], tmp_path / "data", options=["--workers", "1"]) as server,
        client_of(server, patience=0) as client,
    ):
        for _ in range(2):
            client.scores(features)
        body = client.enveloped(client.encrypt(features))
        assert refusal(client.post(body)) is Code.QUERY_LIMIT
        with pytest.raises(RequestRefused, match="7000000 bytes"):
            client.session.put_object(bytes(3_000_000))
        metadata = Metadata.sqlite(server.data_dir / DATABASE_FILE)
        metadata.clients.set_quotas("default", {"daily_queries": 3})
        metadata.close()
        client.scores(features)
