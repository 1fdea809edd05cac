"""Threads for blocking calls of an event loop: the one that became free last takes the next call.

What it needs is then still in a processor's caches. The standard library's executor wakes its threads in turn, and two
of them that alternate took a quarter more processor time for a request than one.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")
_Work = Callable[[], None]


class Threads:
    """A bounded number of threads, each started when it is needed first; they end with the process.

    Args:
        most: threads at a time; further calls wait for one.
        name: what they are called.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._idle: list[_Thread] = []
        self._waiting: deque[_Work] = deque()
        self._count = 0
        self._lock = threading.Lock()

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function in a thread, in a copy of this context; raises what it raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        context = copy_context()

        def work() -> None:
            if answer.cancelled():
                return
            settle: Callable[[], None]
            try:
                settle = partial(_succeed, answer, context.run(function, *args))
            except BaseException as error:  # and raised in the event loop
                settle = partial(_fail, answer, error)
            with suppress(RuntimeError):  # the event loop has closed, and nobody waits
                loop.call_soon_threadsafe(settle)

        self._give(work)
        return await answer

    def _give(self, work: _Work) -> None:
        with self._lock:
            if self._idle:
                self._idle.pop().take(work)
            elif self._count < self._most:
                self._count += 1
                _Thread(self._next, work, f"{self._name}-{self._count}").start()
            else:
                self._waiting.append(work)

    def _next(self, thread: "_Thread") -> _Work | None:
        """Return a call that waits; None where none does, and the thread will be given one."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(thread)
            return None


class _Thread(threading.Thread):
    """Carries out what it is given, and asks for more after each."""

    def __init__(self, following: "Callable[[_Thread], _Work | None]", work: _Work, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._following = following
        self._given = work
        self._go = threading.Lock()
        self._go.acquire()

    def take(self, work: _Work) -> None:
        """Carry out one more call; for a thread that is idle."""
        self._given = work
        self._go.release()

    def run(self) -> None:
        """Carry out calls without end."""
        work: _Work | None = self._given
        while True:
            if work is None:
                self._go.acquire()
                work = self._given
            self._given = _nothing  # what a call refers to may be large, and is not to outlive it
            work()
            work = None
            work = self._following(self)


def _nothing() -> None:
    """Stands for a call that was carried out."""


def _succeed(answer: "asyncio.Future[Any]", result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: "asyncio.Future[Any]", error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
