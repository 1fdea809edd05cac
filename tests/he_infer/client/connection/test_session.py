"""The session against wrong or hostile servers: each gives one clear error, and no answer is accepted."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from he_infer.ckks.planning.search import make_plan
from he_infer.client.connection.session import Session
from he_infer.errors import (
    HeInferError,
    MissingKey,
    NotAuthentic,
    ProtocolMismatch,
    RequestRefused,
    SecretKeyRefused,
    ServerBusy,
    ServerError,
    ServerUnreachable,
    Unauthorised,
)
from he_infer.head.layers import Head, Linear
from he_infer.wire import envelope as wire

TOKEN = "hei_0123456789abcdef_" + "A" * 43
KEY_SET = "5" * 32

Answer = tuple[int, dict[str, str], bytes]


def info(**changes: object) -> bytes:
    stated = {
        "service": "he-infer",
        "version": "0",
        "protocol": {"min": wire.VERSION, "max": wire.VERSION},
        "seal": wire.seal_format(),
        "engine": "seal",
        "receipt_key": "00" * 32,
        "time": int(time.time() * 1000),
        "limits": {"keys": 1, "request": 1, "object": 1},
    }
    return json.dumps({**stated, **changes}).encode()


def error(code: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": f"refused: {code}", "request_id": "0" * 16}}).encode()


class Impostor:
    """An HTTP server with a fixed answer for each route."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], Answer]] = {"/v1/info": lambda: (200, {}, info())}
        self.asked: list[str] = []
        impostor = self

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            impostor.asked.append(handler.path)
            status, headers, body = impostor.answers[handler.path]()
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        methods: dict[str, Any] = {f"do_{method}": answer for method in ("GET", "POST", "PUT", "DELETE")}
        methods["log_message"] = lambda *_: None
        handler = type("Handler", (BaseHTTPRequestHandler,), methods)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def impostor() -> Iterator[Impostor]:
    server = Impostor()
    yield server
    server.close()


@pytest.fixture
def session(impostor: Impostor) -> Iterator[Session]:
    with Session(impostor.url, TOKEN, patience=0) as opened:
        yield opened


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (info(protocol={"min": 8, "max": 9}), "versions 8 to 9"),
        (info(seal="tenseal-9.9.9"), "tenseal-9.9.9"),
        (info(service="other"), "not a server of he-infer"),
        (b"<html>hello</html>", "does not answer as a server"),
        (b"[]", "does not answer as a server"),
        (b"\xff\xfe\x00", "does not answer as a server"),
    ],
)
def test_a_server_of_another_kind_or_version_is_named(
    impostor: Impostor, session: Session, body: bytes, words: str
) -> None:
    impostor.answers["/v1/info"] = lambda: (200, {}, body)
    with pytest.raises(ProtocolMismatch, match=words):
        session.models()


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("unauthorised", 401, Unauthorised),
        ("forbidden", 403, Unauthorised),
        ("unsupported_version", 400, ProtocolMismatch),
        ("missing_keys", 409, MissingKey),
        ("secret_key", 400, SecretKeyRefused),
        ("busy", 429, ServerBusy),
        ("draining", 503, ServerBusy),
        ("bad_keys", 400, RequestRefused),
        ("a code of a later release", 418, RequestRefused),
    ],
)
def test_refusal_code_raises_its_error(
    impostor: Impostor, session: Session, code: str, status: int, kind: type[HeInferError]
) -> None:
    impostor.answers["/v1/models"] = lambda: (status, {}, error(code))
    with pytest.raises(kind, match=r"refused|does not accept the token|no evaluation keys"):
        session.models()


@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b'{"detail":"no"}', b'{"error":"no"}', b"[1]"])
def test_refusal_of_unknown_form_raises_clear_error(impostor: Impostor, session: Session, body: bytes) -> None:
    impostor.answers["/v1/models"] = lambda: (502, {}, body)
    with pytest.raises(ProtocolMismatch, match="status 502"):
        session.models()


def test_a_busy_server_is_asked_again_after_the_time_it_names(impostor: Impostor) -> None:
    answers = [(429, {"Retry-After": "1"}, error("busy")), (200, {}, b"sealed")]
    impostor.answers["/v1/objects/" + "a" * 32] = lambda: answers.pop(0)
    with Session(impostor.url, TOKEN, patience=20) as session, pytest.raises(HeInferError):
        session.get_object("a" * 32)  # the answer has no digest, so it is refused; but the request was sent twice
    assert impostor.asked.count("/v1/objects/" + "a" * 32) == 2


def test_object_with_wrong_digest_is_refused(impostor: Impostor, session: Session) -> None:
    impostor.answers["/v1/objects/" + "a" * 32] = lambda: (200, {"X-Content-SHA256": "0" * 64}, b"other bytes")
    with pytest.raises(HeInferError, match="not what was stored"):
        session.get_object("a" * 32)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://", "no scheme", "ftp://x", "http://[::1", "http://\x00"])
def test_address_without_server_is_unreachable(url: str) -> None:
    with pytest.raises(ServerUnreachable) as caught, Session(url, TOKEN, patience=0) as session:
        session.healthz()
    assert "\n" not in str(caught.value)


def test_error_messages_never_hold_token(impostor: Impostor, session: Session) -> None:
    impostor.answers["/v1/models"] = lambda: (401, {}, error("unauthorised"))
    with pytest.raises(Unauthorised) as caught:
        session.models()
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(session)


def test_clock_jump_makes_client_read_server_time_again(impostor: Impostor, session: Session) -> None:
    plan = make_plan(Head((Linear(np.ones((2, 16)), np.zeros(2)),)), input_bound=1.0)
    stored = json.dumps({"plan": plan.digest, "key_set": KEY_SET, "bytes": 1}).encode()
    answers = [(400, {}, error("stale")), (201, {}, stored)]
    impostor.answers[f"/v1/keys/{plan.digest}/{KEY_SET}"] = lambda: answers.pop(0)
    assert session.register(plan, KEY_SET, {"galois": b"x"}).key_set == KEY_SET
    assert impostor.asked.count("/v1/info") == 2
    answers += [(400, {}, error("stale"))] * 2
    with pytest.raises(RequestRefused):  # one retry only: a server that refuses every time is not asked for ever
        session.register(plan, KEY_SET, {"galois": b"x"})
    assert impostor.asked.count("/v1/info") == 3


def test_clock_read_again_keeps_server_key_of_first_contact(impostor: Impostor, session: Session) -> None:
    plan = make_plan(Head((Linear(np.ones((2, 16)), np.zeros(2)),)), input_bound=1.0)
    assert session.server_key == "00" * 32
    impostor.answers["/v1/info"] = lambda: (200, {}, info(receipt_key="11" * 32))
    impostor.answers[f"/v1/keys/{plan.digest}/{KEY_SET}"] = lambda: (400, {}, error("stale"))
    with pytest.raises(NotAuthentic):
        session.register(plan, KEY_SET, {"galois": b"x"})


def test_request_of_closed_session_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session("http://127.0.0.1:9", TOKEN, patience=60)
    session.close()
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("the request was repeated"))
    with pytest.raises(ServerError, match="The client was closed"):
        session.models()
