"""Which requests are refused before they are parsed, and how; see also `tests/attacks/test_flood_beyond_share.py`."""

import json
from pathlib import Path
from typing import cast

import pytest

from he_infer.server.evidence.telemetry import Exchanges
from he_infer.server.http.admission import Admission
from he_infer.server.http.classify import PATH
from he_infer.server.http.connections import EarlyRefusal, Gate
from he_infer.server.http.overload import Overload
from he_infer.wire.refusals import Code, Refused
from tests.attacks.kit import FEATURES
from tests.attacks.test_flood_beyond_share import SHARE, answered, send_head, small_server
from tests.he_infer.server.support.kit import client_of

ROUTE = "/v1/models/toy-1/classify"
PLAIN = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hei_1\r\nContent-Length: 9\r\n\r\n".encode()


def test_a_refused_request_is_noted_like_any_other(bundle: Path, tmp_path: Path) -> None:
    with small_server(bundle, tmp_path / "data") as server, client_of(server) as client:
        body = client.enveloped(client.encrypt(FEATURES))
        connections = [send_head(client, body) for _ in range(SHARE + 1)]
        answer = answered(connections, 1)[0].recv(65536)
        for connection in connections:
            connection.close()
        log = server.log_path.read_text()
    head, _, text = answer.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
    request_id = json.loads(text)["error"]["request_id"]
    assert headers["x-request-id"] == request_id
    assert int(headers["content-length"]) == len(text)
    assert int(headers["retry-after"]) >= 1
    assert {"date", "content-type"} <= set(headers)
    line = next(line for line in log.splitlines() if request_id in line)
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
