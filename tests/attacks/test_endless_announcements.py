"""A hostile server that sends the client to another host, or announces an answer without end and never gives it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from he_infer.client.connection import connection as connections
from he_infer.client.connection.session import Session
from he_infer.errors import ProtocolMismatch, ServerUnreachable
from tests.he_infer.client.connection.test_session import TOKEN, Impostor


@contextmanager
def repeating(start: bytes, piece: bytes) -> Iterator[str]:
    """The address of a server that answers with `start`, and then with `piece` as fast as it is read."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            try:
                connection.sendall(start)
                while True:
                    connection.sendall(piece)
            except OSError:  # the client has gone
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(timeout=30)
        assert not thread.is_alive()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_server_that_names_another_host_is_refused_and_the_token_stays(status: int) -> None:
    hostile, elsewhere = Impostor(), socket.create_server(("127.0.0.1", 0))
    try:
        address = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1/models"
        hostile.answers["/v1/models"] = lambda: (status, {"Location": address}, b"")
        with Session(hostile.url, TOKEN, patience=0) as session, pytest.raises(ProtocolMismatch, match=str(status)):
            session.models()
        elsewhere.settimeout(0)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    finally:
        hostile.close()
        elsewhere.close()


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", 100 * b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", 100 * b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", 100 * b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", 4096 * b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 100 * b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", 100 * b"X: y\r\n"),
    ],
    ids=["continue", "early hints", "headers", "a chunk's extension", "chunks", "trailers"],
)
def test_an_answer_that_never_comes_is_given_up(start: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.Connection._send_once, "__kwdefaults__", {"most": 1 << 16, "seconds": 1.0})
    began = time.monotonic()
    with (
        repeating(start, piece) as url,
        Session(url, TOKEN, patience=0) as session,
        pytest.raises((ServerUnreachable, ProtocolMismatch)),
    ):
        session.healthz()
    assert time.monotonic() - began < 60
