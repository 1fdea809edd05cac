"""Threads for blocking calls."""

import asyncio
import gc
import threading
import time
import weakref
from contextvars import ContextVar

import pytest

from he_infer.server.threads import Threads

number: ContextVar[int] = ContextVar("number", default=0)


def test_the_thread_that_became_free_last_takes_the_next_call() -> None:
    async def scenario() -> None:
        threads, both = Threads(8, "x"), threading.Barrier(2)
        await asyncio.gather(threads.run(both.wait), threads.run(both.wait))
        while len(threads._idle) < 2:
            await asyncio.sleep(0.01)
        used = set()
        for _ in range(20):
            used.add(await threads.run(threading.get_ident))
            while len(threads._idle) < 2:  # it has answered, and is about to be free
                await asyncio.sleep(0.001)
        assert len(used) == 1

    asyncio.run(scenario())


def test_more_calls_than_threads_wait_and_are_all_carried_out() -> None:
    async def scenario() -> None:
        threads = Threads(3, "x")
        running, most, lock = 0, 0, threading.Lock()

        def work(index: int) -> int:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.002)
            with lock:
                running -= 1
            return index

        answers = await asyncio.gather(*(threads.run(work, index) for index in range(50)))
        assert answers == list(range(50))
        assert 1 <= most <= 3

    asyncio.run(scenario())


def test_errors_are_raised_and_the_context_is_a_copy() -> None:
    async def scenario() -> None:
        threads = Threads(1, "x")
        number.set(7)
        assert await threads.run(number.get) == 7
        await threads.run(number.set, 8)
        assert number.get() == 7
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 / 0)
        assert await threads.run(lambda: 5) == 5

    asyncio.run(scenario())


def test_a_call_that_is_cancelled_while_it_waits_is_not_carried_out() -> None:
    async def scenario() -> None:
        threads, go, done = Threads(1, "x"), threading.Event(), []
        first = asyncio.create_task(threads.run(go.wait))
        second = asyncio.create_task(threads.run(done.append, 1))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.sleep(0)
        go.set()
        assert await first
        assert await threads.run(lambda: 5) == 5
        assert done == []

    asyncio.run(scenario())


def test_a_call_that_ends_after_its_event_loop_leaves_the_thread_usable() -> None:
    threads, go = Threads(1, "x"), threading.Event()

    async def leave() -> None:
        task = asyncio.create_task(threads.run(go.wait))
        await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(leave())
    go.set()
    assert asyncio.run(threads.run(lambda: 5)) == 5


def test_an_idle_thread_keeps_nothing_of_its_last_call() -> None:
    class Body:
        pass

    async def scenario() -> None:
        threads, body = Threads(1, "x"), Body()
        seen = weakref.ref(body)
        assert await threads.run(lambda held: held, body) is body
        del body
        while not threads._idle:
            await asyncio.sleep(0.01)
        gc.collect()
        assert seen() is None

    asyncio.run(scenario())
