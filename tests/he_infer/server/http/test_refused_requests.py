"""Every documented refusal, from a running server."""

import socket
import time
from pathlib import Path

import httpx2
import numpy as np
import pytest

from he_infer.client.connection.session import Session
from he_infer.errors import (
    MissingKey,
    RequestRefused,
    SecretKeyRefused,
    ServerUnreachable,
    Unauthorised,
)
from he_infer.head.bundle import HeadBundle
from he_infer.local_server import LocalServer
from he_infer.server import tokens
from he_infer.server.metadata import Metadata
from he_infer.server.service import DATABASE_FILE
from he_infer.wire.key_set import new_key_set
from he_infer.wire.refusals import Code
from tests.he_infer.server.support.kit import Client, add_token, code_of, is_right, refusal


def test_a_wrong_token_is_refused_with_one_line(server: LocalServer) -> None:
    wrong = "hei_0123456789abcdef_" + "A" * 43
    with Session(server.url, wrong) as session, pytest.raises(Unauthorised) as error:
        session.models()
    assert "\n" not in str(error.value)
    response = httpx2.get(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {wrong}"})
    assert refusal(response) is Code.UNAUTHORISED
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_revoked_token_is_refused_from_the_next_request_on(server: LocalServer) -> None:
    token = tokens.new_token()
    metadata = Metadata.sqlite(server.data_dir / DATABASE_FILE)
    metadata.tokens.add("visitor", token, frozenset({tokens.Scope.CLASSIFY}))
    with Session(server.url, token.text) as session:
        assert session.models()
        metadata.tokens.revoke(token.token_id)
        with pytest.raises(Unauthorised):
            session.models()
    metadata.close()


def test_token_of_another_scope_is_forbidden(server: LocalServer) -> None:
    metadata = Metadata.sqlite(server.data_dir / DATABASE_FILE)
    texts = {}
    for scope in tokens.Scope:
        token = tokens.new_token()
        metadata.tokens.add("scoped", token, frozenset({scope}))
        texts[scope] = token.text
    metadata.close()
    routes = {
        "/v1/models": tokens.Scope.CLASSIFY,
        "/v1/keys": tokens.Scope.CLASSIFY,
        "/v1/objects": tokens.Scope.STORE,
        "/metrics": tokens.Scope.ADMIN,
    }
    for route, needed in routes.items():
        for scope, text in texts.items():
            response = httpx2.get(server.url + route, headers={"Authorization": f"Bearer {text}"})
            assert response.status_code == (200 if scope is needed else 403), (route, scope)


def test_bytes_that_are_not_an_envelope_are_refused(client: Client) -> None:
    assert refusal(client.post(b"")) is Code.NOT_AN_ENVELOPE
    assert refusal(client.post(b"\x89PNG" + bytes(100))) is Code.NOT_AN_ENVELOPE
    assert refusal(client.post(b"HEIW\x01\x00")) is Code.TRUNCATED
    assert refusal(client.post(client.enveloped()[:-1])) is Code.TRUNCATED


def test_another_protocol_version_is_refused(client: Client) -> None:
    body = bytearray(client.enveloped())
    body[4] = 9
    assert refusal(client.post(bytes(body))) is Code.UNSUPPORTED_VERSION


def test_an_envelope_of_version_1_is_refused_by_name(client: Client) -> None:
    body = bytearray(client.enveloped())
    body[4] = 1
    answer = client.post(bytes(body))
    assert refusal(answer) is Code.UNSUPPORTED_VERSION
    assert "same release" in answer.text


def test_a_replay_is_refused(client: Client, features: np.ndarray) -> None:
    body = client.enveloped(client.encrypt(features))
    assert client.post(body).status_code == 200
    assert refusal(client.post(body)) is Code.REPLAYED


@pytest.mark.parametrize("hours", [-1, 1])
def test_an_envelope_of_another_time_is_refused(client: Client, hours: int) -> None:
    body = client.enveloped(time=int((time.time() + hours * 3600) * 1000))
    assert refusal(client.post(body)) is Code.STALE


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": None},
        {"nonce": "short"},
        {"nonce": "A" * 32},
        {"time": "now"},
        {"time": True},
        {"time": 1.5},
        {"plan": 3},
        {"model": "another"},
        {"extra": 1},
    ],
)
def test_a_header_of_another_form_is_refused(client: Client, changes: dict[str, object]) -> None:
    assert refusal(client.post(client.enveloped(**changes))) is Code.INVALID


def test_an_unknown_model_or_plan_is_refused(client: Client) -> None:
    headers = {"Authorization": f"Bearer {client.token}"}
    response = httpx2.post(f"{client.server.url}/v1/models/none/classify", content=b"x", headers=headers)
    assert refusal(response) is Code.UNKNOWN_MODEL
    assert refusal(client.post(client.enveloped(plan="0" * 64))) is Code.UNKNOWN_PLAN


def test_a_body_over_the_limit_is_refused_unread(client: Client) -> None:
    limit = httpx2.get(f"{client.server.url}/v1/info").json()["limits"]["request"]
    host, port = client.server.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/models/{client.model.id}/classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {client.token}\r\nContent-Length: {limit + 1}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(head.encode())  # and not a byte of the body
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"too_large"' in answer


def test_a_body_without_a_length_is_refused(client: Client) -> None:
    headers = {"Authorization": f"Bearer {client.token}"}
    response = httpx2.post(
        f"{client.server.url}/v1/models/{client.model.id}/classify", content=iter([b"x"]), headers=headers
    )
    assert refusal(response) is Code.LENGTH_REQUIRED


@pytest.mark.parametrize("part", [b"", b"x", bytes(1000), b"\x5e\xa1\x10\x04" + bytes(200)])
def test_ciphertexts_that_do_not_parse_are_refused(client: Client, part: bytes, features: np.ndarray) -> None:
    count = len(client.encrypt(features))
    assert refusal(client.post(client.enveloped([part] * count))) is Code.BAD_CIPHERTEXT


def test_too_few_or_too_many_ciphertexts_are_refused(client: Client, features: np.ndarray) -> None:
    parts = client.encrypt(features)
    assert refusal(client.post(client.enveloped([]))) is Code.BAD_CIPHERTEXT
    assert refusal(client.post(client.enveloped([*parts, parts[0]]))) is Code.BAD_CIPHERTEXT


def test_missing_keys_are_named(server: LocalServer, client: Client, features: np.ndarray) -> None:
    token = add_token(server, "newcomer", tokens.Scope.CLASSIFY)
    with Session(server.url, token) as session, pytest.raises(MissingKey, match="no key set"):
        session.classify(client.model, client.plan, client.key_set, client.encrypt(features))


@pytest.mark.parametrize("keys", [{}, {"galois": b"x"}, {"galois": b"", "relin": b""}, {"other": b"x"}])
def test_bytes_that_are_not_keys_are_refused(client: Client, keys: dict[str, bytes]) -> None:
    with pytest.raises(RequestRefused) as error:
        client.session.register(client.plan, client.key_set, keys)
    assert code_of(error) is Code.BAD_KEYS


def test_swapped_key_parts_are_refused(client: Client) -> None:
    swapped = {"galois": client.keys["relin"], "relin": client.keys["galois"]}
    with pytest.raises(RequestRefused) as error:
        client.session.register(client.plan, client.key_set, swapped)
    assert code_of(error) is Code.BAD_KEYS


def seal_secret_key(client: Client) -> bytes:
    """The secret key as SEAL serializes it, without the ring size and chain that stand before it."""
    return client.secret.to_bytes()[5 + client.secret.to_bytes()[4] :]


@pytest.mark.parametrize("name", ["galois", "relin", "secret"])
def test_a_secret_key_is_refused_wherever_it_stands(client: Client, name: str) -> None:
    secret = seal_secret_key(client)
    with pytest.raises(SecretKeyRefused):
        client.session.register(client.plan, client.key_set, {**client.keys, name: secret})
    stored = b"".join(path.read_bytes() for path in client.server.data_dir.rglob("*") if path.is_file())
    assert secret[64:128] not in stored


def test_a_refused_registration_leaves_the_old_keys(client: Client, features: np.ndarray) -> None:
    with pytest.raises(RequestRefused):
        client.session.register(client.plan, new_key_set(), {"galois": b"x", "relin": b"y"})
    assert client.scores(features).shape == (1, 3)


def test_two_key_sets_of_one_client_live_side_by_side(server: LocalServer, features: np.ndarray, bundle: Path) -> None:
    expected = HeadBundle.load(bundle).head.evaluate(features)
    with Session(server.url, server.token) as session:
        first, second = Client(server, session, server.token), Client(server, session, server.token)
        for one in (first, second, first):
            assert is_right(one.plan, one.scores(features), expected)
        session.forget_keys(first.plan.digest, first.key_set)
        with pytest.raises(MissingKey, match=first.key_set):
            first.scores(features)
        assert is_right(second.plan, second.scores(features), expected)


def test_a_key_set_is_never_replaced(server: LocalServer, features: np.ndarray, client: Client) -> None:
    again = client.session.register(client.plan, client.key_set, client.keys)
    assert again == client.stored
    with pytest.raises(RequestRefused, match=client.key_set) as refused:
        client.session.register(client.plan, client.key_set, client.secret.evaluation_keys(client.plan))
    assert code_of(refused) is Code.KEYS_EXIST
    assert client.scores(features).shape == (1, 3)


def test_an_unknown_route_and_method_are_refused_in_the_same_form(server: LocalServer) -> None:
    assert refusal(httpx2.get(f"{server.url}/v2/none")) is Code.NOT_FOUND
    assert refusal(httpx2.delete(f"{server.url}/v1/info")) is Code.METHOD_NOT_ALLOWED


def test_unreachable_server_gives_one_line() -> None:
    with Session("http://127.0.0.1:9", "hei_x") as session, pytest.raises(ServerUnreachable, match="No server answers"):
        session.models()
