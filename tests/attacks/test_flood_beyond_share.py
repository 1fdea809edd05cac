"""A client that sends more than its share: the rest is refused without being read, and others are served."""

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from he_infer.local_server import LocalServer
from he_infer.server.http.classify import PATH
from he_infer.server.tokens import Scope
from tests.attacks.kit import FEATURES, begin, read_answer
from tests.he_infer.server.support.kit import Client, add_token, client_of, write_bundle

SHARE = 3
"""Requests that the server lets in of one client."""


@contextmanager
def small_server(bundle: Path, folder: Path) -> Iterator[LocalServer]:
    """A server with room for few requests, which waits long for their bodies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HE_INFER_SERVER_QUEUE", str(SHARE))
        patch.setenv("HE_INFER_SERVER_QUEUE_SECONDS", "1000")
        patch.setenv("HE_INFER_SERVER_BODY_SECONDS", "300")
        with LocalServer([bundle], folder, options=["--workers", "1"]) as server:
            yield server


def send_head(client: Client, body: bytes) -> socket.socket:
    """Send a head alone, of a request with this body."""
    path = PATH.replace("{model}", client.model.id)
    return begin(client.server, "POST", path, client.token, f"Content-Length: {len(body)}", "Connection: keep-alive")


def received(server: LocalServer) -> list[int]:
    """Bytes received of the body of each classification that the log says was refused as busy."""
    lines = [json.loads(line) for line in server.log_path.read_text().splitlines() if '"outcome": "busy"' in line]
    return [line["received"] for line in lines if line["route"] == PATH]


def answered(connections: list[socket.socket], count: int) -> list[socket.socket]:
    """Wait for answers on so many connections."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select(connections, [], [], 0.05)
        if len(ready) >= count:
            break
    return ready


def test_requests_beyond_a_share_are_refused_unread_and_others_are_served(tmp_path: Path) -> None:
    with small_server(write_bundle(tmp_path / "toy.hebundle"), tmp_path / "data") as server:
        token = add_token(server, "flood", Scope.CLASSIFY)
        with client_of(server, token) as flood, client_of(server, patience=0) as steady:
            body = flood.enveloped(flood.encrypt(FEATURES))
            connections = [send_head(flood, body) for _ in range(SHARE + 5)]
            refused = answered(connections, 5)
            assert [read_answer(connection) for connection in refused] == [(429, "busy", False)] * 5
            for _ in range(3):  # its session asks once: it is never refused for what another client holds
                assert steady.scores(FEATURES).shape == (1, 3)
            assert received(server) == [0] * 5
            for connection in set(connections) - set(refused):
                connection.close()
            while flood.post(flood.enveloped(flood.encrypt(FEATURES))).status_code == 429:
                time.sleep(0.1)  # until the server has noticed that they were closed
            # A connection whose request was refused goes on behind the body that was not read.
            refused[0].sendall(body)
            path = PATH.replace("{model}", flood.model.id)
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}"
            refused[0].sendall(f"{head}\r\n\r\n".encode() + body)
            assert refused[0].recv(65536).startswith(b"HTTP/1.1 200")
            for connection in refused:
                connection.close()
