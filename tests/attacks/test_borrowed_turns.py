"""Strangers who take the turns of others: with a token that has ended, under invented addresses, from many of them."""

import secrets
import time
from collections.abc import Callable

import httpx2
import pytest
from starlette.requests import Request

from he_infer.server import tokens
from he_infer.server.http import admission
from he_infer.server.metadata import Metadata
from he_infer.server.service import DATABASE_FILE
from he_infer.server.tokens import Scope
from tests.attacks.kit import FEATURES, Scene, connect, knocking
from tests.he_infer.server.support.kit import add_token

SECONDS = 4.0


def check_rate(scene: Scene, url: str, headers: Callable[[], dict[str, str]]) -> list[int]:
    """Check that requests are answered at the rate of strangers, and the honest client meanwhile."""
    began = time.monotonic()
    with knocking(url, headers, connections=8) as statuses:
        while time.monotonic() < began + SECONDS:
            scene.still_serves()
    took = time.monotonic() - began
    # 600 malformed messages a minute and a tenth of it at once, a stranger's request being half of one.
    assert len(statuses) <= 2 * (60 + 10 * took) + 16
    return statuses


def test_a_flood_with_a_token_that_has_ended_is_answered_at_the_rate_of_strangers(scene: Scene) -> None:
    token = add_token(scene.server, "a department that left", Scope.CLASSIFY)
    headers = {"Authorization": f"Bearer {token}"}
    url = scene.server.url + "/v1/models"
    assert httpx2.get(url, headers=headers).status_code == 200  # the server knows it from now on
    database = Metadata.sqlite(scene.server.data_dir / DATABASE_FILE)
    try:
        database.tokens.revoke(str(tokens.token_id(token)))
    finally:
        database.close()
    assert set(check_rate(scene, url, lambda: headers)) == {401}


def test_a_flood_under_invented_addresses_is_answered_at_the_rate_of_one(scene: Scene) -> None:
    def invent() -> dict[str, str]:
        return {"X-Forwarded-For": ".".join(str(byte) for byte in secrets.token_bytes(4))}

    assert set(check_rate(scene, scene.server.url + "/v1/info", invent)) <= {200, 429}


def test_many_addresses_have_few_turns_and_an_ipv6_network_one() -> None:
    def place(host: str) -> int:
        return admission._place_of_address(Request({"type": "http", "client": (host, 1)}))

    addresses = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(20_000)]
    assert 512 < len({place(address) for address in addresses}) <= 1024
    assert len({place(f"2001:db8:0:1::{number:x}") for number in range(1, 500)}) == 1
    assert len({place(f"2001:db8:0:{number:x}::1") for number in range(500)}) > 250
    assert place("::ffff:10.0.0.1") == place("10.0.0.1")


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "nonsense"])
def test_a_wish_for_another_protocol_is_answered_over_http_and_writes_one_line(scene: Scene, protocol: str) -> None:
    before = scene.server.log_path.stat().st_size
    with connect(scene.server) as connection:
        head = "GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        connection.sendall(f"{head}Upgrade: {protocol}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
    assert scene.honest.scores(FEATURES).shape == (1, 3)  # its line comes after those of the request before
    with scene.server.log_path.open() as log:
        log.seek(before)
        assert "Unsupported upgrade" not in log.read()


@pytest.mark.parametrize("line", [f"{'A' * 15_000} /v1/models", f"GET /{'a' * 15_000}"], ids=["method", "path"])
def test_a_long_request_line_takes_a_short_line_of_the_log(scene: Scene, line: str) -> None:
    before = scene.server.log_path.stat().st_size
    with connect(scene.server) as connection:
        connection.sendall(f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 40")
    scene.still_serves()
    with scene.server.log_path.open() as log:
        log.seek(before)
        assert max(map(len, log)) < 1000
