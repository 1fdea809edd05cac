"""Turns of the clients at the server process: no client's requests fill its threads while another one is active.

The process has one interpreter lock, so requests that run side by side slow one another down. A client that is alone
may have many of them running; while others are active it has one at a time, and the rest wait without cost. Waiting for
a worker process or for a store is no part of a turn: see `end_turn`.

A client's malformed messages are answered ever more slowly once they exceed an allowance: an honest client sends none,
and one that sends nothing else would take its turns in vain. The same holds for requests of strangers, by address.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from he_infer.wire.refusals import Code, Refused

ALONE = 16
"""Requests of one client that run at a time while no other client is active."""
SHARED = 1
"""Requests of one client that run at a time while another one is active."""
ACTIVE_SECONDS = 5.0
"""Seconds for which a client counts as active after its last turn."""
_LONGEST_PENALTY = 10.0
_ALLOWANCE_SECONDS = 6.0
"""The allowance of malformed messages at once, in seconds of the allowed rate."""

MALFORMED = dict.fromkeys(
    (
        Code.INVALID,
        Code.TOO_LARGE,
        Code.BODY_TIMEOUT,
        Code.LENGTH_REQUIRED,
        Code.NOT_AN_ENVELOPE,
        Code.UNSUPPORTED_VERSION,
        Code.TRUNCATED,
        Code.STALE,
        Code.REPLAYED,
        Code.SECRET_KEY,
        Code.BAD_CIPHERTEXT,
        Code.DIGEST_MISMATCH,
    ),
    1,
) | {Code.BAD_KEYS: 5, Code.WORKER_DIED: 60, Code.WORKER_LIMIT: 60}
"""Refusals of messages that an honest client does not send, or sends once, and how many messages each counts for.

A trial of keys takes a process of its own, and a worker that died or ran into its limit is started anew.
"""

BUSY_A_SECOND = 1000
"""Requests of one client that are refused as too many and answered at once, a second; the next ones wait."""
_LONGEST_BUSY = 1.0

STRANGER = 0.5
"""How many malformed messages a request counts for that comes without a token, or with one that was not accepted yet.

It costs the server as much, but new clients and load balancers send a few."""


@dataclass
class _Lane:
    """One client's turns."""

    running: int = 0
    seen: float = 0.0
    allowance: float = 0.0
    counted: float = 0.0
    """When the allowance was last brought up to date."""
    busy: float = BUSY_A_SECOND
    """Requests that may still be refused at once as too many."""
    busy_counted: float = 0.0
    waiting: deque["asyncio.Future[None]"] = field(default_factory=deque)


class Turn:
    """The right to run one piece of work; ended once, from any thread."""

    def __init__(self, turns: "Turns", lane: str) -> None:
        self._turns = turns
        self._lane = lane
        self._loop = asyncio.get_running_loop()
        self._ended = False

    def end(self) -> None:
        """End the turn from another thread; a second call changes nothing.

        The event loop is woken only where somebody waits for a turn of this client: waking it costs more than a turn's
        bookkeeping, which is done when the loop next looks.
        """
        if self._turns.give_back(self, self._lane):
            self._loop.call_soon_threadsafe(self._turns.collect)

    def end_here(self) -> None:
        """End the turn from the event loop's thread; a second call changes nothing."""
        if not self._ended:
            self._ended = True
            self._turns.release(self._lane)


_turn: ContextVar[Turn | None] = ContextVar("turn", default=None)


def end_turn() -> None:
    """End the turn of the work that calls this: what follows waits for a worker, a store or a disk."""
    if (turn := _turn.get()) is not None:
        turn.end()


class Turns:
    """Gives out turns, on one event loop.

    Args:
        waiting: requests of one client that may wait for a turn; more are refused.
        malformed_a_minute: malformed messages of one client that are answered without delay.
        clock: steady time in seconds.
    """

    def __init__(self, waiting: int, malformed_a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._waiting = waiting
        self._rate = malformed_a_minute / 60
        self._burst = self._rate * _ALLOWANCE_SECONDS
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._given_back: deque[Turn] = deque()
        """Turns that other threads have ended, and that are not counted as ended yet."""

    @asynccontextmanager
    async def of(self, name: str, *, begun: bool = False) -> AsyncIterator[None]:
        """Wait for a turn of a client, and end it with the block or where the work in it calls `end_turn`.

        Args:
            name: the client.
            begun: whether the work goes on with an answer that has begun, which cannot be refused any more.

        Raises:
            Refused: `busy` where too many of the client's requests wait already.
        """
        self.collect()
        lane = self._enter(name)
        if lane.running >= self._bound(name):
            if not begun:
                try:
                    self.check_room(name)
                except Refused:
                    await asyncio.sleep(1.0)  # an answer at once would only bring the next request sooner
                    raise
            place = asyncio.get_running_loop().create_future()
            lane.waiting.append(place)
            self.collect()  # a turn that was given back just before saw nobody wait
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self.release(name)
                raise
        else:
            lane.running += 1
        turn = Turn(self, name)
        token = _turn.set(turn)
        try:
            if not begun and (wait := self._penalty(lane)) > 0:
                await asyncio.sleep(wait)
            yield
        finally:
            _turn.reset(token)
            turn.end_here()

    def check_room(self, name: str) -> None:
        """Refuse where as many requests of a client wait for a turn as may.

        Raises:
            Refused: `busy`.
        """
        lane = self._lanes.get(name)
        if lane is not None and len(lane.waiting) >= self._waiting:
            raise Refused(Code.BUSY, "Too many requests of this client wait; try again in 1 s.", retry_after=1.0)

    def count_busy(self, name: str, weight: int = 1) -> float:
        """Count a request that is refused as too many; returns the seconds after which it is to be answered.

        A client that asks on at once, instead of when it was told to, would otherwise take the server's time with
        nothing but refusals.
        """
        lane, now = self._enter(name), self._clock()
        lane.busy = min(BUSY_A_SECOND, lane.busy + (now - lane.busy_counted) * BUSY_A_SECOND)
        lane.busy_counted = now
        lane.busy = max(lane.busy - weight, -BUSY_A_SECOND * _LONGEST_BUSY)
        return max(0.0, -lane.busy / BUSY_A_SECOND)

    def give_back(self, turn: Turn, name: str) -> bool:
        """Take a turn back, in any thread; tells whether a request waits for it, so that `collect` is to be called."""
        self._given_back.append(turn)
        return bool(self._lanes[name].waiting)

    def collect(self) -> None:
        """Count the turns that were given back as ended."""
        while self._given_back:
            self._given_back.popleft().end_here()

    def release(self, name: str) -> None:
        """Count a turn as ended, and give the next ones."""
        lane = self._lanes[name]
        lane.running -= 1
        lane.seen = self._clock()
        bound = self._bound(name)
        while lane.waiting and lane.running < bound:
            place = lane.waiting.popleft()
            if not place.done():
                lane.running += 1
                place.set_result(None)

    def count_malformed(self, name: str, weight: float = 1) -> None:
        """Count a malformed message of a client, or so many of them."""
        lane = self._enter(name)
        self._refill(lane)
        lane.allowance -= weight

    def _enter(self, name: str) -> _Lane:
        now = self._clock()
        lane = self._lanes.get(name)
        if lane is None:
            self._forget_idle(now)
            lane = self._lanes[name] = _Lane(allowance=self._burst, counted=now)
        lane.seen = now
        return lane

    def _bound(self, name: str) -> int:
        since = self._clock() - ACTIVE_SECONDS
        others = any(
            lane.seen > since or lane.running for other, lane in self._lanes.items() if other not in (name, "")
        )
        return SHARED if others else ALONE

    def _penalty(self, lane: _Lane) -> float:
        """Seconds by which the lane's next message is delayed."""
        self._refill(lane)
        return min(_LONGEST_PENALTY, -lane.allowance / self._rate) if lane.allowance < 0 else 0.0

    def _refill(self, lane: _Lane) -> None:
        now = self._clock()
        lane.allowance = min(self._burst, lane.allowance + (now - lane.counted) * self._rate)
        lane.counted = now

    def _forget_idle(self, now: float) -> None:
        idle = [
            name
            for name, lane in self._lanes.items()
            if not lane.running and not lane.waiting and now - lane.seen > 60 + _LONGEST_PENALTY
        ]
        for name in idle:
            del self._lanes[name]
