"""The whole server as a process: a head evaluated on ciphertexts, with keys that outlive it."""

import stat
from pathlib import Path

import httpx2
import numpy as np
import pytest

from he_infer.client.connection.session import Session
from he_infer.errors import (
    NotAuthentic,
    RequestRefused,
)
from he_infer.head.bundle import HeadBundle
from he_infer.local_server import LocalServer
from he_infer.server import tokens
from he_infer.server.metadata import Quotas
from he_infer.wire.refusals import Code
from tests.he_infer.server.support.kit import Client, add_token, agree, client_of, code_of, is_right, refusal


def test_scores_are_those_of_the_clear_head(client: Client, bundle: Path, features: np.ndarray) -> None:
    expected = HeadBundle.load(bundle).head.evaluate(features)
    assert is_right(client.plan, client.scores(features), expected)


def test_receipt_names_model_plan_and_request(client: Client, features: np.ndarray) -> None:
    answer = client.session.classify(client.model, client.plan, client.key_set, client.encrypt(features))
    receipt = answer.receipt
    assert (receipt.model, receipt.plan) == (client.model.id, client.plan.digest)
    assert receipt.head_digest == client.model.head_digest
    assert receipt.server_key == client.session.server_key
    assert answer.server_seconds > 0
    assert answer.bytes_down > sum(len(part) for part in answer.parts)


def test_session_with_other_pinned_server_key_stops(server: LocalServer) -> None:
    with Session(server.url, server.token, server_key="00" * 32) as session, pytest.raises(NotAuthentic):
        session.models()


def test_models_are_offered_without_their_weights(server: LocalServer, bundle: Path) -> None:
    response = httpx2.get(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {server.token}"})
    head = HeadBundle.load(bundle).head
    tensors, _ = head.to_tensors()
    text = response.text
    for tensor in tensors.values():
        assert not any(f"{value:.6f}"[:8] in text for value in np.asarray(tensor).ravel())
    assert response.json()["models"][0]["head_digest"] == head.digest


def test_keys_and_tokens_and_objects_survive_a_restart(bundle: Path, tmp_path: Path, features: np.ndarray) -> None:
    server = LocalServer([bundle], tmp_path / "data", options=["--workers", "1"]).start()
    with client_of(server) as client:
        before = client.scores(features)
        stored = client.session.put_object(b"sealed" * 1000)
        accepted = client.enveloped(client.encrypt(features))
        assert client.post(accepted).status_code == 200
    server.kill()
    again = LocalServer([bundle], tmp_path / "data", token=server.token, options=["--workers", "1"]).start()
    try:
        with Session(again.url, server.token) as session:
            assert {keys.plan for keys in session.key_sets()} == {client.plan.digest}
            assert session.get_object(stored.id) == b"sealed" * 1000
            client.session, client.server = session, again
            assert refusal(client.post(accepted)) is Code.REPLAYED
            assert agree(client.plan, client.scores(features), before)
    finally:
        assert again.stop() == 0


def test_the_data_folder_is_private(server: LocalServer) -> None:
    for path in [server.data_dir, *server.data_dir.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_token_is_not_in_the_data_folder(server: LocalServer, client: Client, features: np.ndarray) -> None:
    client.scores(features)
    secret = server.token.split("_", 2)[2].encode()
    assert not [path for path in server.data_dir.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_daily_limit_ends_with_429_and_the_time_to_wait(server: LocalServer, features: np.ndarray) -> None:
    token = add_token(server, "limited", tokens.Scope.CLASSIFY, quotas=Quotas(daily_queries=2))
    with client_of(server, token) as client:
        client.scores(features)
        client.scores(features)
        with pytest.raises(RequestRefused) as error:
            client.scores(features)
        assert code_of(error) is Code.QUERY_LIMIT
        response = client.post(client.enveloped(client.encrypt(features)))
        assert 0 < int(response.headers["Retry-After"]) <= 86400
