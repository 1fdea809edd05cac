"""Downloads are read in the client's turns, and few of one client are open at a time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message

from he_infer.server.http.downloads import OPEN, Downloads
from he_infer.server.metadata import Caller
from he_infer.wire.refusals import Code, Refused

CALLER = Caller("a", "a", "t", frozenset())
OTHER = Caller("b", "b", "t", frozenset())
SCOPE = {"type": "http", "asgi": {"spec_version": "2.4"}}


async def receive() -> Message:
    await asyncio.sleep(3600)
    return {"type": "http.disconnect"}


def test_each_piece_is_read_in_a_turn() -> None:
    turns: list[Any] = []

    async def run(function: Callable[..., Any], *args: Any) -> Any:
        turns.append(function)
        return function(*args)

    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def main() -> None:
        await Downloads(run).answer(CALLER, iter([b"a", b"b", b"c"]), 200, {})(SCOPE, receive, send)

    asyncio.run(main())
    assert b"".join(sent) == b"abc"
    assert turns == [next] * 4  # the last one finds the end


def test_downloads_beyond_the_bound_are_refused_until_one_ends_whichever_way() -> None:
    go = asyncio.Event()

    async def run(function: Callable[..., Any], *args: Any) -> Any:
        await go.wait()
        return function(*args)

    async def send(message: Message) -> None:
        return

    async def main() -> None:
        downloads = Downloads(run)

        def begin(caller: Caller) -> "asyncio.Task[None]":
            answer = downloads.answer(caller, iter([b"a"]), 200, {})

            async def call() -> None:
                await answer(SCOPE, receive, send)

            return asyncio.create_task(call())

        tasks = []
        for _ in range(OPEN):
            tasks.append(begin(CALLER))
            await asyncio.sleep(0)
        with pytest.raises(Refused) as caught:
            begin(CALLER)
        assert caught.value.code is Code.BUSY
        tasks.append(begin(OTHER))
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        tasks.append(begin(CALLER))
        go.set()
        await asyncio.gather(*tasks[1:])
        assert not downloads.open

    asyncio.run(main())
