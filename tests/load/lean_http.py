"""A bare HTTP/1.1 client for the load: a tenth of a library's work a request, so that senders leave the server a core.

Each request takes an idle connection, or opens one, as an open loop must. It knows what this server answers alone:
a status line, headers, and a body with a Content-Length.
"""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """Status and headers (names in lower case) of an answer; its body is read and dropped."""

    status: int
    headers: dict[str, str]


class Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: Answer | None = None
        self._missing = 0
        self._waiting: asyncio.Future[Answer] | None = None
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way, if there is one."""
        self.open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("closed before the answer was whole"))

    def data_received(self, data: bytes) -> None:
        """Read an answer's head, then count its body."""
        if self._answer is None:
            self._received += data
            end = self._received.find(_END)
            if end < 0:
                return
            self._answer = _read_head(bytes(self._received[:end]))
            self._missing = int(self._answer.headers["content-length"])
            data = bytes(self._received[end + len(_END) :])
            self._received.clear()
        self._missing -= len(data)
        if self._missing == 0 and self._waiting is not None:
            answer, self._answer = self._answer, None
            self.open = self.open and answer.headers.get("connection") != "close"
            self._waiting.set_result(answer)

    async def send(self, head: bytes, body: bytes) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            OSError: the connection ended before the answer was whole.
        """
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.writelines((head, body))
        return await self._waiting

    def close(self) -> None:
        """Close the connection."""
        self.open = False
        if self._transport is not None:
            self._transport.close()


class LeanClient:
    """Posts bodies to one server.

    Args:
        url: `http://host:port`.
        token: bearer token of all requests.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._headers = f"Host: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
        self._idle: list[Connection] = []

    async def post(self, path: str, body: bytes, seconds: float) -> Answer:
        """Send one request, within so many seconds.

        Raises:
            OSError: there was no answer; a `TimeoutError`, where none came in time.
        """
        head = f"POST {path} HTTP/1.1\r\n{self._headers}Content-Length: {len(body)}\r\n\r\n".encode()
        async with asyncio.timeout(seconds):
            connection = await self._take()
            try:
                answer = await connection.send(head, body)
            except BaseException:
                connection.close()
                raise
        if connection.open:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection


def _read_head(head: bytes) -> Answer:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Answer(int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs})
