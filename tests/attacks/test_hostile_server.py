"""A hostile server's answers: too large, too slow, compressed, or with text that moves the terminal's cursor."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from he_infer.client.connection import connection as connections
from he_infer.client.connection.session import Session
from he_infer.errors import ProtocolMismatch, RequestRefused, ServerUnreachable, UsageError
from he_infer.terminal import clean, explain
from tests.he_infer.client.connection.test_session import TOKEN, Impostor, error, info


@pytest.fixture
def impostor() -> Iterator[Impostor]:
    server = Impostor()
    yield server
    server.close()


def test_a_compressed_answer_is_refused_unopened(impostor: Impostor) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    impostor.answers["/v1/models"] = lambda: (200, {"Content-Encoding": "gzip"}, bomb)
    with Session(impostor.url, TOKEN, patience=0) as session, pytest.raises(ProtocolMismatch, match="gzip"):
        session.models()


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_above_the_limit_of_its_route_is_refused(impostor: Impostor, status: int) -> None:
    impostor.answers["/v1/models"] = lambda: (status, {}, bytes(connections.MOST_JSON + 1))
    with Session(impostor.url, TOKEN, patience=0) as session, pytest.raises(ProtocolMismatch, match="more than"):
        session.models()


def test_a_range_of_an_object_is_no_longer_than_was_asked_for(impostor: Impostor) -> None:
    name = "a" * 32
    impostor.answers[f"/v1/objects/{name}"] = lambda: (206, {}, bytes(1000))
    with Session(impostor.url, TOKEN, patience=0) as session, pytest.raises(ProtocolMismatch, match="more than the 10"):
        session.get_range(name, 0, 10)


class Dripping:
    """A server that sends its headers or its body one byte at a time, forever."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._stopped = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(self._start)
            while not self._stopped.wait(0.05):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    def close(self) -> None:
        self._stopped.set()
        self._server.close()


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"], ids=["headers", "body"]
)
def test_a_slow_answer_ends_in_a_timeout(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.Connection._send_once, "__kwdefaults__", {"most": 1 << 20, "seconds": 0.5})
    server = Dripping(start)
    began = time.monotonic()
    with Session(server.url, TOKEN, patience=0) as session, pytest.raises(ServerUnreachable, match="too slowly"):
        session.healthz()
    assert time.monotonic() - began < 20
    server.close()


def test_control_characters_in_a_refusal_do_not_move_the_cursor(impostor: Impostor) -> None:
    hostile = "bad\\u001b[2J\\u001b]0;owned\\u0007\\u202egnp\\r\\nerror: all is well"
    body = error("invalid").replace(b"refused: invalid", hostile.encode())
    impostor.answers["/v1/models"] = lambda: (422, {}, body)
    with Session(impostor.url, TOKEN, patience=0) as session, pytest.raises(RequestRefused) as caught:
        session.models()
    line = explain(caught.value)
    assert line is not None
    assert line.isprintable()
    assert "\u202e" not in line


@pytest.mark.parametrize("member", ["id", "head_digest", "plans"])
def test_an_offer_whose_ids_move_the_cursor_is_refused(impostor: Impostor, member: str) -> None:
    hostile = "bad\x1b[2J\x1b]0;owned\x07"
    plan = {"digest": "0" * 64, "batch": 1, "needs_keys": False, "plan": "{}"}
    offer = {"id": "m", "name": "m", "classes": ["a", "b"], "policy": "hidden", "head_digest": "0" * 64}
    offer |= {
        "input_bound": 1.0,
        "plans": [plan],
        member: [{**plan, "digest": hostile}] if member == "plans" else hostile,
    }
    impostor.answers["/v1/models"] = lambda: (200, {}, json.dumps({"models": [offer]}).encode())
    with Session(impostor.url, TOKEN, patience=0) as session, pytest.raises(ProtocolMismatch, match="does not answer"):
        session.models()


@pytest.mark.parametrize("member", ["version", "seal", "engine"])
def test_a_version_that_moves_the_cursor_is_refused(impostor: Impostor, member: str) -> None:
    impostor.answers["/v1/info"] = lambda: (200, {}, info(**{member: "1\x1b[2J"}))
    with Session(impostor.url, TOKEN, patience=0) as session, pytest.raises(ProtocolMismatch, match="does not answer"):
        session.models()


@pytest.mark.parametrize("member", ["id", "sha256"])
def test_a_listing_whose_ids_are_paths_or_escapes_is_refused(impostor: Impostor, member: str) -> None:
    entry = {"id": "0" * 32, "version": 1, "size": 1, "sha256": "0" * 64, "created": 1.0}
    for hostile in ("../../v1/keys/0", "\x1b[2J", "0" * 31):
        page = {"objects": [{**entry, member: hostile}], "next": None}
        impostor.answers["/v1/objects?after="] = lambda page=page: (200, {}, json.dumps(page).encode())
        with Session(impostor.url, TOKEN, patience=0) as session, pytest.raises(ProtocolMismatch):
            list(session.objects())


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\rb\x00", "\u202eabc", "a\x9bb", "\ud800", "a\u2028b"])
def test_control_characters_are_shown_as_text(text: str) -> None:
    assert clean(text).isprintable()


def test_names_in_any_script_stay_as_they_are() -> None:
    for name in ("Größe", "尺寸 測試", "می\u200cخواهم", "[bold]", "a\\b"):
        assert clean(name) == name


@pytest.mark.parametrize(
    "url", ["http://cloud.example:8080", "http://192.0.2.1", "http://127.0.0.1.example", "HTTP://[2001:db8::1]:80"]
)
def test_plain_http_to_another_host_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(UsageError, match="--insecure-http"):
        Session(url, TOKEN)
    Session(url, TOKEN, insecure_http=True).close()


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@127.0.0.1:1",
        "https://user:secret@cloud.example",
        "http://127.0.0.1@cloud.example",
        "http://cloud.example\\@127.0.0.1",
        "https://cloud.example/?key=secret",
        "https://cloud.example/#secret",
    ],
)
def test_an_address_with_a_password_or_a_query_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError, match="neither user nor password") as caught:
        Session(url, TOKEN)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.1", "http://2130706433", "http://0.0.0.0", "http://localhost.evil"])
def test_spellings_that_are_no_loopback_address_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--insecure-http"):
        Session(url, TOKEN)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "http://127.9.9.9", "https://cloud.example"]
)
def test_loopback_and_https_need_no_option(url: str) -> None:
    Session(url, TOKEN).close()
