"""Admission of requests before any route's work: a token, and a thread to run in."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Request

from he_infer.server.http.body import BodyReader
from he_infer.server.http.parameters import Credentials
from he_infer.server.metadata import Caller
from he_infer.server.service import Service
from he_infer.server.tokens import Scope

Result = TypeVar("Result")


class Admission:
    """Threads for blocking calls, authentication, and the reader of bodies.

    Args:
        service: the service that holds the clients and settings.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        # A thread for each task that may wait or run, and some more, so that a refusal never waits for a thread.
        self._threads = CapacityLimiter(2 * settings.queue + settings.workers + 32)
        self.bodies = BodyReader(settings, service.spool, self.run)

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run a blocking function in a thread."""
        return await anyio.to_thread.run_sync(partial(function, *args), limiter=self._threads)

    async def authenticate(self, request: Request, credentials: Credentials, scope: Scope) -> Caller:
        """See `Service.authenticate`; the log line of the request names the client from then on.

        Raises:
            Refused: `unauthorised`, `forbidden`, `rate_limit`, `storage`.
        """
        token = credentials.credentials if credentials else None
        caller = self._service.authenticate_from_memory(token, scope)
        if caller is None:
            caller = await self.run(self._service.authenticate, token, scope)
        request.state.client = caller.client_id
        return caller
