"""Answers with a sealed object's bytes: read piece by piece in the client's turns, and few at a time for one client."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from he_infer.server.http.openapi import OCTETS
from he_infer.server.metadata import Caller
from he_infer.wire.refusals import Code, Refused

OPEN = 16
"""Downloads of one client that are sent at a time: each holds a piece in memory until the client has read it."""

RunBegun = Callable[..., Awaitable[Any]]


class Downloads:
    """Counts the open downloads of each client.

    Args:
        run: runs a blocking function in a thread, in a turn of the request's client, for an answer that has begun.
    """

    def __init__(self, run: RunBegun) -> None:
        self._run = run
        self.open: defaultdict[str, int] = defaultdict(int)

    def answer(self, caller: Caller, pieces: Iterator[bytes], status: int, headers: Mapping[str, str]) -> "Download":
        """Answer with pieces of an object, each read in a turn of the client.

        Raises:
            Refused: `busy` where too many downloads of the client are open.
        """
        if self.open[caller.client_id] >= OPEN:
            raise Refused(
                Code.BUSY, f"{OPEN} downloads of this client are open; try again when one has ended.", retry_after=1.0
            )
        return Download(self, caller.client_id, self._paced(pieces), status, headers)

    async def _paced(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        while (piece := await self._run(next, pieces, None)) is not None:
            yield piece


class Download(StreamingResponse):
    """The answer of one download; it counts as open while it is being sent."""

    def __init__(
        self,
        downloads: Downloads,
        client_id: str,
        content: AsyncIterator[bytes],
        status: int,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(content, status_code=status, media_type=OCTETS, headers=headers)
        self._open = downloads.open
        self._client_id = client_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; where it cannot go on, its connection is closed before the stated length."""
        self._open[self._client_id] += 1
        try:
            await super().__call__(scope, receive, send)
        except Refused as refused:  # the status is sent, so the log alone can have the code
            scope["state"]["outcome"] = refused.code.value
        finally:
            self._open[self._client_id] -= 1
            if not self._open[self._client_id]:
                del self._open[self._client_id]
