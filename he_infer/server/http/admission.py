"""What every route asks of a request before its work begins: a token, a body within bounds, a thread to run in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Request

from he_infer.server.http.parameters import Credentials
from he_infer.server.metadata import Caller
from he_infer.server.service import Service
from he_infer.server.tokens import Scope
from he_infer.wire.refusals import Code, Refused

Result = TypeVar("Result")


class Admission:
    """Threads for blocking calls, authentication, and the memory and time set aside for bodies.

    Args:
        service: whose clients and settings they are.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        # A thread for each task that may wait or run, and some more, so that a refusal never waits for a thread.
        self._threads = CapacityLimiter(settings.queue + settings.workers + 32)
        self._free_bytes = settings.bodies_in_memory

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run a blocking function in a thread."""
        return await anyio.to_thread.run_sync(partial(function, *args), limiter=self._threads)

    async def authenticate(self, request: Request, credentials: Credentials, scope: Scope) -> Caller:
        """See `Service.authenticate`; the log line of the request names the client from then on.

        Raises:
            Refused: `unauthorised`, `forbidden`, `rate_limit`, `storage`.
        """
        token = credentials.credentials if credentials else None
        caller = await self.run(self._service.authenticate, token, scope)
        request.state.client = caller.client_id
        return caller

    @contextlib.asynccontextmanager
    async def body(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The whole body, of an announced length within the limit and within the memory set aside for all bodies.

        Raises:
            Refused: `length_required`, `invalid`, `too_large`, `busy`, `body_timeout`.
        """
        length = announced_length(request)
        if length > limit:
            raise Refused(Code.TOO_LARGE, f"The body has {length} bytes; at most {limit} are accepted here.")
        if length > self._free_bytes:
            raise Refused(Code.BUSY, "Too many bodies are being received; try again in 1 s.", retry_after=1.0)
        self._free_bytes -= length
        try:
            data = bytearray()
            async with self.in_time():
                async for piece in request.stream():
                    data += piece
            yield bytes(data)
        finally:
            self._free_bytes += length

    @contextlib.asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Give a body only so long to arrive.

        Raises:
            Refused: `body_timeout`.
        """
        seconds = self._service.settings.body_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise Refused(Code.BODY_TIMEOUT, f"The body did not arrive within {seconds:g} s.") from error


def announced_length(request: Request) -> int:
    """The Content-Length.

    Raises:
        Refused: `length_required`, `invalid`.
    """
    text = request.headers.get("content-length")
    if text is None:
        raise Refused(Code.LENGTH_REQUIRED, "Send the body with a Content-Length.")
    if not (text.isascii() and text.isdigit()):
        raise Refused(Code.INVALID, "Content-Length must be a number.")
    return int(text)
