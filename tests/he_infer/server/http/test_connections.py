"""Silent, slow and non-reading clients: each holds its connection for a bounded time."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from he_infer.client.connection.session import Session
from he_infer.local_server import LocalServer
from he_infer.server.http.connections import EarlyRefusal, Gate, Leave, bounded


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


@contextlib.contextmanager
def serving(gate: Gate) -> Iterator[tuple[uvicorn.Server, int]]:
    """A server with this gate that answers every request with two bytes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, http=bounded(1.5, 1.5, gate), log_config=None, loop="asyncio", lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield server, listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
NO = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"


def refuse_first(wait: float) -> Gate:
    """A gate that refuses the first request after a time, and lets the others in."""
    seen: list[bytes] = []

    def gate(data: bytes) -> EarlyRefusal | None:
        seen.append(data)
        return EarlyRefusal(len(HEAD), 9, wait, lambda _: NO) if len(seen) == 1 else None

    return gate


@pytest.mark.parametrize("wait", [0.0, 0.3])
@pytest.mark.parametrize("cut", [0, 4, 9, 9 + len(HEAD), 9 + len(HEAD) + 9])
def test_requests_behind_a_refused_one_are_answered_however_the_bytes_come(wait: float, cut: int) -> None:
    behind = b"123456789" + HEAD + b"abcdefghi"
    with serving(refuse_first(wait)) as (_, port), socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(HEAD + behind[:cut])
        assert client.recv(len(NO), socket.MSG_WAITALL) == NO
        if behind[cut:]:
            client.sendall(behind[cut:])
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_refused_request_whose_body_never_ends_is_cut_off() -> None:
    with serving(refuse_first(0.0)) as (_, port), socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(HEAD + b"1234")
        assert client.recv(len(NO), socket.MSG_WAITALL) == NO
        assert ended(client)


def test_a_refusal_that_waits_is_sent_before_the_server_stops() -> None:
    with serving(refuse_first(1000.0)) as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(30)
        client.sendall(HEAD + b"123456789")
        time.sleep(0.5)
        server.should_exit = True
        assert client.recv(len(NO), socket.MSG_WAITALL) == NO
        assert ended(client)


def test_a_request_that_was_let_in_leaves_once_however_it_ends() -> None:
    entered, left = [], []

    def gate(data: bytes) -> Leave:
        entered.append(data)
        return lambda: left.append(data)

    with serving(gate) as (_, port):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            for _ in range(2):
                client.sendall(HEAD + b"123456789")
                answer = b""
                while not answer.endswith(b"ok"):
                    answer += client.recv(65536)
            client.sendall(HEAD)
            time.sleep(0.2)
        deadline = time.monotonic() + 30
        while len(left) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(entered) == len(left) == 3
