"""Admission of requests before any route's work: a turn of the client, a token, and a thread to run in.

A request may take long after its token was checked: its body comes slowly, or its answer is read slowly. So the token
is checked again before each piece of its work.
"""

import asyncio
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request

from he_infer.server.http.body import BodyReader
from he_infer.server.http.downloads import Downloads
from he_infer.server.http.large_puts import LargePuts
from he_infer.server.metadata import Caller
from he_infer.server.service import Service
from he_infer.server.threads import Threads
from he_infer.server.tokens import Scope, digest
from he_infer.server.turns import MALFORMED, STRANGER, Turns
from he_infer.wire.refusals import Code, Refused

_KNOWN = 10_000
"""Tokens whose clients are remembered."""
_STRANGERS = 1024
"""Turns of strangers in all, which addresses share: however many there are, looking at all turns costs as little."""
_SALT = secrets.token_bytes(16)
"""Nobody outside can tell which addresses share a turn."""
_PARSED = 8
"""How many early refusals a refusal costs of a request that was parsed and authenticated."""
_ASK_SECONDS = 1.0
"""Time after which a token's validity is asked of a database that memory cannot speak for."""
_lane: ContextVar[str] = ContextVar("lane", default="")


@dataclass
class _Admitted:
    """A caller, and when its token was last checked."""

    caller: Caller
    checked: float


_admitted: ContextVar[_Admitted | None] = ContextVar("admitted", default=None)

Result = TypeVar("Result")


class Admission:
    """Turns and threads for blocking calls, authentication, and the reader of bodies.

    Args:
        service: the service that holds the clients and settings.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        # A thread for each task that may wait or run, and some more, so that a refusal never waits for a thread.
        self._threads = Threads(2 * settings.queue + settings.workers + 32, "he-infer-request")
        self._turns = Turns(settings.queue, settings.malformed_per_minute)
        self._clients: OrderedDict[str, str] = OrderedDict()
        self.bodies = BodyReader(settings, service.spool, self.run)
        self.downloads = Downloads(self._run_begun)
        self.large_puts = LargePuts()

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run a blocking function in a thread, in a turn of the request's client.

        Raises:
            Refused: `busy`, `unauthorised` where the token has ended since it was checked, and what the function
                raises.
        """
        async with self._turns.of(_lane.get()):
            return await self._threads.run(self._work, _admitted.get(), function, *args)

    def recall_client(self, token: str) -> str | None:
        """The client whose token this was when it was last accepted; None where that is not remembered."""
        return self._clients.get(digest(token))

    def find_busy(self, client: str, under_way: int = 0) -> Refused | None:
        """The refusal of one more classification of this client, where it has its share already.

        Args:
            client: the client.
            under_way: classifications of this client that were let in and are not answered, where that is known.
        """
        try:
            self._turns.check_room(client)
            self._service.pool.check_room(client, under_way)
        except Refused as refused:
            return refused
        return None

    def pace_refusal(self, client: str, weight: int = 1) -> float:
        """Count a refusal of `find_busy`; returns the seconds after which it is to be answered."""
        return self._turns.count_busy(client, weight)

    async def refuse_busy(self, client: str) -> None:
        """Refuse a classification of a client that has its share already.

        Raises:
            Refused: `busy`.
        """
        if (refused := self.find_busy(client)) is not None:
            if (wait := self.pace_refusal(client, _PARSED)) > 0:
                await asyncio.sleep(wait)
            raise refused

    async def _run_begun(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run a blocking function for an answer that has begun: it waits for its turn and is never refused."""
        async with self._turns.of(_lane.get(), begun=True):
            return await self._threads.run(self._work, _admitted.get(), function, *args)

    def _work(self, admitted: _Admitted | None, function: Callable[..., Result], *args: Any) -> Result:
        if admitted is not None:
            now = time.monotonic()
            ask = now - admitted.checked > _ASK_SECONDS
            self._service.check_again(admitted.caller, ask=ask)
            if ask:
                admitted.checked = now
        return function(*args)

    async def count_refusal(self, request: Request, error: Exception) -> None:
        """Count a refusal of a malformed message against its client, or against the address of one without a token."""
        if not isinstance(error, Refused):  # the framework's own refusal, before a token was looked at
            lane = f"unknown {_place_of_address(request)}"
            with suppress(Refused):
                async with self._turns.of(lane):
                    self._turns.count_malformed(lane)
        elif error.code in MALFORMED and (lane := _lane.get()):
            self._turns.count_malformed(lane, MALFORMED[error.code])

    async def meet(self, request: Request) -> None:
        """Let a request to a route that needs no token wait for its turn among the strangers at its address.

        Raises:
            Refused: `busy`.
        """
        lane = _lane_of_strangers(request)
        async with self._turns.of(lane):
            self._turns.count_malformed(lane, STRANGER)

    async def authenticate(self, request: Request, token: str | None, scope: Scope) -> Caller:
        """See `Service.authenticate`; the log line of the request names the client from then on.

        Raises:
            Refused: `unauthorised`, `forbidden`, `rate_limit`, `busy`, `storage`.
        """
        key = digest(token) if token else ""
        # Until a token was accepted once, its requests share the turns of all strangers at this address.
        known = self._clients.get(key)
        _lane.set(known or _lane_of_strangers(request))
        try:
            async with self._turns.of(_lane.get()):
                if known is None:
                    self._turns.count_malformed(_lane.get(), STRANGER)
                caller = self._service.authenticate_from_memory(token, scope)
                if caller is None:
                    caller = await self._threads.run(self._service.authenticate, token, scope)
        except Refused as refused:
            if refused.code is Code.UNAUTHORISED:  # it has ended: whoever has it takes no turns of its former client
                self._clients.pop(key, None)
            raise
        _lane.set(caller.client_id)
        self._clients[key] = caller.client_id
        self._clients.move_to_end(key)
        if len(self._clients) > _KNOWN:
            self._clients.popitem(last=False)
        _admitted.set(_Admitted(caller, time.monotonic()))
        request.state.client = caller.client_id
        return caller


def _lane_of_strangers(request: Request) -> str:
    return f"address {_place_of_address(request)}"


def _place_of_address(request: Request) -> int:
    """The turn that an address shares; all addresses of one IPv6 network of 64 bits, which is one machine's, have one.

    A trusted proxy may name anything for an address.
    """
    host = request.client.host if request.client else ""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if isinstance(address, ipaddress.IPv6Address):
            host = str(address.ipv4_mapped or int(address) >> 64)
    return hash((_SALT, host)) % _STRANGERS
