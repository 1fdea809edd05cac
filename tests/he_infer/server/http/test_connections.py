"""Silent, slow and non-reading clients: each holds its connection for a bounded time."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from he_infer.client.connection.session import Session
from he_infer.local_server import LocalServer


@pytest.fixture(scope="module")
def strict(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HE_INFER_SERVER_HEAD_SECONDS", "1.5")
        patch.setenv("HE_INFER_SERVER_READ_SECONDS", "1.5")
        with LocalServer([bundle], tmp_path_factory.mktemp("strict") / "data", options=["--workers", "1"]) as server:
            yield server


def connect(server: LocalServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


def held(server: LocalServer) -> int:
    """Count the sockets that the server's process has open."""
    count = 0
    for link in Path(f"/proc/{server.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            count += str(link.readlink()).startswith("socket:")
    return count


def settles(server: LocalServer, before: int) -> bool:
    """Wait until the server has no more sockets than before; False where that takes too long."""
    deadline = time.monotonic() + 20
    while held(server) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    return held(server) <= before


def test_connections_without_a_request_are_closed(strict: LocalServer) -> None:
    before = held(strict)
    silent = [connect(strict) for _ in range(60)]
    assert all(ended(connection) for connection in silent)
    for connection in silent:
        connection.close()
    assert settles(strict, before)


def test_request_head_sent_byte_by_byte_is_cut_off(strict: LocalServer) -> None:
    def dribble(connection: socket.socket) -> None:
        connection.sendall(b"GET /")
        for _ in range(200):
            connection.sendall(b"x")
            time.sleep(0.1)

    begun = time.monotonic()
    with connect(strict) as connection, pytest.raises(ConnectionError):
        dribble(connection)
    assert time.monotonic() - begun < 15


def test_head_of_second_request_is_bounded(strict: LocalServer) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b"status" not in answer:
            answer += connection.recv(65536)
        assert b" 200 " in answer
        connection.sendall(b"GET /heal")
        assert ended(connection)


def test_a_client_that_does_not_read_its_answer_is_cut_off(strict: LocalServer) -> None:
    data = os.urandom(24 << 20)  # more than the kernel's buffers hold
    with Session(strict.url, strict.token) as session, contextlib.ExitStack() as deaf:
        stored = session.put_object(data)
        before = held(strict)
        head = f"GET /v1/objects/{stored.id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {strict.token}\r\n\r\n"
        for _ in range(8):
            deaf.enter_context(connect(strict)).sendall(head.encode())
        assert session.get_object(stored.id) == data  # others are served meanwhile
        assert settles(strict, before)
        assert session.get_object(stored.id) == data
