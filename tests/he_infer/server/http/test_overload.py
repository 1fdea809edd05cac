"""A client that has its share is refused before its requests are parsed or their bodies read; others are served."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from he_infer.local_server import LocalServer
from he_infer.server.evidence.telemetry import Exchanges
from he_infer.server.http.admission import Admission
from he_infer.server.http.classify import PATH
from he_infer.server.http.connections import EarlyRefusal, Gate
from he_infer.server.http.overload import Overload
from he_infer.server.tokens import Scope
from he_infer.wire.refusals import Code, Refused
from tests.attacks.kit import begin, read_answer
from tests.he_infer.server.support.kit import Client, add_token, client_of

SHARE = 3
FEATURES = np.random.default_rng(3).uniform(-1, 1, (1, 32))
ROUTE = "/v1/models/toy-1/classify"
PLAIN = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hei_1\r\nContent-Length: 9\r\n\r\n".encode()


@pytest.fixture(scope="module")
def small(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HE_INFER_SERVER_QUEUE", str(SHARE))
        patch.setenv("HE_INFER_SERVER_QUEUE_SECONDS", "1000")
        patch.setenv("HE_INFER_SERVER_BODY_SECONDS", "120")
        with LocalServer([bundle], tmp_path_factory.mktemp("small") / "data", options=["--workers", "1"]) as server:
            yield server


def ask(flood: Client, body: bytes) -> socket.socket:
    """Send a head alone, of a request with this body."""
    path = PATH.replace("{model}", flood.model.id)
    return begin(flood.server, "POST", path, flood.token, f"Content-Length: {len(body)}", "Connection: keep-alive")


def busy(connection: socket.socket) -> bool:
    """Tell whether a request is refused, or let in: then nothing comes before its body."""
    connection.settimeout(3.0)
    try:
        return read_answer(connection) == (429, "busy", False)
    except TimeoutError:
        return False
    finally:
        connection.settimeout(60)


def refusals(server: LocalServer) -> list[int]:
    """Bytes received of each classification that the log says was refused as busy."""
    lines = [json.loads(line) for line in server.log_path.read_text().splitlines() if '"outcome": "busy"' in line]
    return [line["received"] for line in lines if line["route"] == PATH]


def test_requests_beyond_a_share_are_refused_unread_and_a_steady_client_is_served(small: LocalServer) -> None:
    token = add_token(small, "flood", Scope.CLASSIFY)
    with client_of(small, token) as flood, client_of(small, patience=0) as steady:
        body = flood.enveloped(flood.encrypt(FEATURES))
        connections = []
        for _ in range(SHARE + 5):
            connections.append(ask(flood, body))
            time.sleep(0.05)  # so that a slow machine too reads them in turn
        refused = [connection for connection in connections if busy(connection)]
        assert len(refused) == len(connections) - SHARE
        assert refusals(small) == [0] * len(refused)
        # The other client is never refused for what the first one holds: its session does not ask twice.
        for _ in range(3):
            assert steady.scores(FEATURES).shape == (1, 3)
        for connection in set(connections) - set(refused):
            connection.close()
        # A connection whose request was refused goes on behind the body that was not read.
        last = refused[0]
        last.sendall(body)
        while flood.post(flood.enveloped(flood.encrypt(FEATURES))).status_code == 429:
            time.sleep(0.1)  # until the server has noticed that the others were closed
        head = (
            f"POST {PATH.replace('{model}', flood.model.id)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        )
        last.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert last.recv(65536).startswith(b"HTTP/1.1 200")
        for connection in refused:
            connection.close()


def test_a_refused_request_is_noted_like_any_other(small: LocalServer) -> None:
    with client_of(small) as client:
        body = client.enveloped(client.encrypt(FEATURES))
        held = [ask(client, body) for _ in range(SHARE)]
        time.sleep(0.2)
        with ask(client, body) as connection:
            answer = connection.recv(65536)
        for each in held:
            each.close()
    head, _, text = answer.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
    request_id = json.loads(text)["error"]["request_id"]
    assert headers["x-request-id"] == request_id
    assert int(headers["content-length"]) == len(text)
    assert int(headers["retry-after"]) >= 1
    assert {"date", "content-type"} <= set(headers)
    line = next(line for line in small.log_path.read_text().splitlines() if request_id in line)
    noted = json.loads(line)
    assert (noted["event"], noted["status"], noted["outcome"], noted["route"]) == ("request", 429, "busy", PATH)
    assert noted["client"]


class Crowded:
    """An admission that knows one client, which has its share while it is busy."""

    is_busy = True

    def recall_client(self, token: str) -> str | None:
        return "client" if token == "hei_1" else None

    def find_busy(self, client: str, under_way: int = 0) -> Refused | None:
        self.under_way = under_way
        return Refused(Code.BUSY, "Busy.", retry_after=1.0) if self.is_busy else None

    def pace_refusal(self, client: str) -> float:
        return 0.0


def gate(crowd: Crowded) -> Gate:
    return Overload(cast(Exchanges, None), cast(Admission, crowd)).enter


def test_a_plain_head_of_a_client_with_its_share_is_refused_with_its_body_still_to_come() -> None:
    refusal = gate(Crowded())(PLAIN + b"ciphertex")
    assert isinstance(refusal, EarlyRefusal)
    assert (refusal.head, refusal.body) == (len(PLAIN), 9)
    library = PLAIN.replace(b"Host", b"Accept: */*\r\nConnection: keep-alive\r\nUser-Agent: a (b; c)/1\r\nhost")
    assert isinstance(gate(Crowded())(library), EarlyRefusal)


def test_requests_under_way_are_counted_until_they_leave() -> None:
    crowd = Crowded()
    crowd.is_busy = False
    enter = gate(crowd)
    leave = [enter(PLAIN), enter(PLAIN)]
    assert crowd.under_way == 1
    for each in leave:
        assert callable(each)
        each()
    enter(PLAIN)
    assert crowd.under_way == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST", b"post"),
        (b"POST", b"GET"),
        (b"classify", b"classify?a=1"),
        (b"classify", b"other"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"/v1", b"http://x/v1"),
        (b"\r\n", b"\n"),
        (b"\r\n\r\n", b"\r\n"),
        (b"Host: x\r\n", b""),
        (b"Host: x\r\n", b"Host: x\r\nHost: y\r\n"),
        (b"Host: x", b"Host : x"),
        (b"Host: x", b"Host:x"),
        (b"Host: x", b"Host: x "),
        (b"Host: x", b"Host: x\r\n folded"),
        (b"Host: x", b"Host: x\x00"),
        (b"Host: x", b"Host: \xe9"),
        (b"Host: x", b"Host: x\r\nX_Y: z"),
        (b"Host: x", b"Host: x\r\nTransfer-Encoding: chunked"),
        (b"Host: x", b"Host: x\r\nExpect: 100-continue"),
        (b"Host: x", b"Host: x\r\nConnection: close"),
        (b"Host: x", b"Host: x\r\nConnection: upgrade"),
        (b"Host: x", b"Host: x\r\nUpgrade: h2c"),
        (b"Host: x", b"Host: x" + 100 * b"\r\nA: b"),
        (b"Host: x", b"Host: " + (1 << 14) * b"x"),
        (b"Length: 9", b"Length: 9\r\nContent-Length: 9"),
        (b"Length: 9", b"Length: +9"),
        (b"Length: 9", b"Length: 9, 9"),
        (b"Length: 9", b"Length: 9000000"),
        (b"Content-Length: 9", b"Content-Type: 9"),
        (b"Bearer hei_1", b"bearer hei_1"),
        (b"Bearer hei_1", b"Bearer hei_1\r\nAuthorization: Bearer hei_2"),
        (b"Bearer hei_1", b"Bearer hei_2"),
        (b"Authorization: Bearer hei_1\r\n", b""),
    ],
)
def test_a_head_of_any_other_form_is_left_to_the_parser(old: bytes, new: bytes) -> None:
    assert old in PLAIN
    assert gate(Crowded())(PLAIN.replace(old, new)) is None
