"""Request heads without end: many headers, one endless line, a byte now and then, and trailers behind chunks.

A head is parsed on the event loop before any token is looked at, so each costs every client.
"""

import contextlib
import socket
import time
from pathlib import Path

import pytest

from he_infer.local_server import LocalServer
from he_infer.server.http.connections import MOST_HEAD, MOST_LINES
from tests.attacks.kit import FEATURES, Scene, connect
from tests.he_infer.server.support.kit import client_of

FIRST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
TRAILERS = b"".join(b"t%d: 1\r\n" % number for number in range(5000))


def read_all(connection: socket.socket) -> bytes:
    """Everything that the server sends until it closes the connection."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            data += piece
    return data


def test_a_head_within_the_bounds_is_answered(scene: Scene) -> None:
    with connect(scene.server) as connection:
        connection.sendall(FIRST + b"a: 1\r\n" * (MOST_LINES - 2) + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("count", [MOST_LINES - 1, 5000])
def test_a_head_of_many_headers_is_refused_unparsed(scene: Scene, count: int) -> None:
    with connect(scene.server) as connection:
        connection.sendall(FIRST + b"".join(b"h%d: 1\r\n" % number for number in range(count)) + b"\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert f"{MOST_LINES} lines".encode() in answer
    scene.still_serves()


def test_a_later_head_of_many_headers_on_one_connection_is_refused_too(scene: Scene) -> None:
    with connect(scene.server) as connection:
        connection.sendall(FIRST + b"\r\n" + FIRST + b"h: 1\r\n" * 5000 + b"\r\n")
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert answer.count(b"HTTP/1.1 400 ") == 1


@pytest.mark.parametrize("line", [b"GET /" + b"a" * (MOST_HEAD + 1), FIRST + b"x: " + b"a" * (MOST_HEAD + 1)])
def test_an_endless_line_is_refused_at_the_bound(scene: Scene, line: bytes) -> None:
    """The server reads a little more than the bound and hangs up, however much would follow."""
    with connect(scene.server) as connection:
        connection.sendall(line)
        assert f"{MOST_HEAD} bytes".encode() in read_all(connection)
    scene.still_serves()
    scene.no_defect()


def test_trailers_behind_chunks_are_not_parsed(scene: Scene) -> None:
    """A request with chunks is answered, and nothing behind its head is read: no trailer and no second request."""
    with connect(scene.server) as connection:
        head = FIRST + b"Transfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"0\r\n" + TRAILERS + b"\r\n" + FIRST + b"\r\n")
        assert read_all(connection).count(b"HTTP/1.1 ") == 1
    scene.still_serves()
    scene.no_defect()


def test_heads_that_come_a_byte_at_a_time_are_ended_and_stop_nobody(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HE_INFER_SERVER_HEAD_SECONDS", "2")
    with (
        LocalServer([scene.bundle], tmp_path / "data", options=["--workers", "1"]) as server,
        client_of(server) as honest,
        contextlib.ExitStack() as held,
    ):
        slow = {held.enter_context(connect(server)) for _ in range(100)}
        for connection in slow:
            connection.sendall(FIRST)
        deadline = time.monotonic() + 60
        while slow and time.monotonic() < deadline:
            for connection in tuple(slow):
                try:
                    connection.sendall(b"x")
                except OSError:
                    slow.remove(connection)
            assert honest.scores(FEATURES).shape == (1, 3)
        assert not slow
