"""Limits the total time of an answer.

HTTP libraries limit only each pause, so a server that sends one byte every few seconds would never time out.
"""

import ssl
import time
from contextvars import ContextVar
from typing import Any

import httpcore2
import httpx2

SECONDS: ContextVar[float] = ContextVar("seconds", default=120.0)
"""Maximum seconds from the last byte sent to the last byte of the answer, for requests of this thread or task."""


class DeadlineTransport(httpx2.HTTPTransport):
    """HTTP/1.1 transport whose answers, headers included, must be complete within `SECONDS` of the request."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore2.ConnectionPool(ssl_context=context, network_backend=_Backend())


class _Backend(httpcore2.SyncBackend):
    def connect_tcp(self, *arguments: Any, **named: Any) -> httpcore2.NetworkStream:
        """Open a connection whose reads have a deadline."""
        return _Stream(super().connect_tcp(*arguments, **named))


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._sent = time.monotonic()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read available bytes within the remaining time of the answer."""
        left = self._sent + SECONDS.get() - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("The answer took too long.")
        return self._stream.read(max_bytes, left if timeout is None else min(timeout, left))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write, and restart the answer's deadline."""
        self._stream.write(buffer, timeout)
        self._sent = time.monotonic()

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """The same over TLS."""
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Facts about the socket."""
        return self._stream.get_extra_info(info)
