"""Reads all request bodies, within bounds on bytes, time, memory and disk; only bytes that have arrived count.

An announced length reserves nothing: an idle connection holds no memory that another client could use. A body must
arrive at a minimum rate. Small bodies are held in memory, within a share for each client; larger ones go to the spool,
within a share of the same size.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from he_infer.server.metadata import Caller
from he_infer.server.settings import ServerSettings
from he_infer.server.storage.spool import Spool
from he_infer.wire.refusals import Code, Refused

IN_MEMORY = 4 << 20
"""Bytes up to which a body is held in memory."""
_SHARE = 8
"""Largest share of the memory for bodies that one client's bodies may take."""

Run = Callable[..., Awaitable[Any]]


class BodyReader:
    """Reads bodies.

    Args:
        settings: the bounds.
        spool: where large bodies go.
        run: runs a blocking function in a thread.
    """

    def __init__(self, settings: ServerSettings, spool: Spool, run: Run) -> None:
        self._settings = settings
        self._spool = spool
        self._run = run
        self._held = 0
        self._held_by: defaultdict[str, int] = defaultdict(int)
        self._spooled_by: defaultdict[str, int] = defaultdict(int)

    @contextlib.asynccontextmanager
    async def whole(
        self, request: Request, caller: Caller, limit: int, room: int | None = None
    ) -> AsyncIterator[bytes | memoryview]:
        """Read a whole body whose announced length is within the limit.

        Args:
            request: the request to read.
            caller: the client that sends it.
            limit: largest body in bytes.
            room: bytes that the client may store beside what it has; None: no bound.

        Raises:
            Refused: `length_required`, `invalid`, `too_large`, `busy`, `quota`, `body_timeout`, `storage`.
        """
        length = announced_length(request)
        if length > limit:
            raise Refused(Code.TOO_LARGE, f"The body has {length} bytes; at most {limit} are accepted here.")
        if length <= IN_MEMORY:
            first, rest = b"", bytearray()
            try:
                async for piece in self.pieces(request, length):
                    self._hold(caller.client_id, len(piece))
                    if first:
                        rest += piece
                    else:
                        first = piece
                yield first + rest if rest else first  # a body in one piece is not copied
            finally:
                self._release(caller.client_id, len(first) + len(rest))
            return
        with await self._run(lambda: self._spool.open(caller.client_id, limit=length, room=room)) as incoming:
            held = 0
            try:
                async for piece in self.pieces(request, length):
                    self._hold_spooled(caller.client_id, len(piece), length)
                    held += len(piece)
                    await self._run(incoming.write, piece)
                with incoming.mapped() as view:
                    yield view
            finally:
                self._release_spooled(caller.client_id, held)

    async def pieces(self, request: Request, length: int) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            Refused: `body_timeout` where it is slower than the least rate, `too_large` where more comes than announced.
        """
        settings, loop = self._settings, asyncio.get_running_loop()
        begun, received = loop.time(), 0
        more = length > 0
        while more:
            try:
                async with asyncio.timeout_at(begun + settings.body_seconds + received / settings.body_rate):
                    message = await request.receive()
            except TimeoutError as error:
                raise Refused(
                    Code.BODY_TIMEOUT,
                    f"The body came more slowly than {settings.body_rate} bytes a second; {received} of {length} bytes "
                    f"came.",
                ) from error
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece, more = message.get("body", b""), message.get("more_body", False)
            received += len(piece)
            if received > length:
                raise Refused(Code.TOO_LARGE, f"The body has more bytes than the {length} that were announced.")
            if piece:
                yield piece

    def _hold(self, client_id: str, size: int) -> None:
        total = self._settings.bodies_in_memory
        if self._held + size > total or self._held_by[client_id] + size > max(total // _SHARE, IN_MEMORY):
            raise Refused(Code.BUSY, "Too many bodies are being received; try again in 1 s.", retry_after=1.0)
        self._held += size
        self._held_by[client_id] += size

    def _release(self, client_id: str, size: int) -> None:
        self._held -= size
        self._held_by[client_id] -= size
        if self._held_by[client_id] <= 0:
            del self._held_by[client_id]

    def _hold_spooled(self, client_id: str, size: int, length: int) -> None:
        """Count bytes of a body on the disk: all of one client's take a share, or one larger body its own length."""
        if self._spooled_by[client_id] + size > max(self._settings.bodies_in_memory // _SHARE, length):
            raise Refused(Code.BUSY, "Too many bodies of this client are being received; try again.", retry_after=1.0)
        self._spooled_by[client_id] += size

    def _release_spooled(self, client_id: str, size: int) -> None:
        self._spooled_by[client_id] -= size
        if self._spooled_by[client_id] <= 0:
            del self._spooled_by[client_id]


def announced_length(request: Request) -> int:
    """Read the Content-Length, which must be the only statement of the body's length.

    Raises:
        Refused: `length_required`, `invalid`.
    """
    lengths = request.headers.getlist("content-length")
    if "transfer-encoding" in request.headers:
        if lengths:
            raise Refused(Code.INVALID, "Send a Content-Length or a Transfer-Encoding, never both.")
        raise Refused(Code.LENGTH_REQUIRED, "Send the body with a Content-Length, not in chunks.")
    if not lengths:
        raise Refused(Code.LENGTH_REQUIRED, "Send the body with a Content-Length.")
    text = lengths[0]
    if len(set(lengths)) > 1 or not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise Refused(Code.INVALID, "Content-Length must be one number.")
    return int(text)
