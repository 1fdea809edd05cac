"""Large requests that never end: one client's take a bounded share of the disk, whatever its storage quota."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from he_infer.server.http.body import IN_MEMORY, BodyReader
from he_infer.server.metadata import Caller
from he_infer.server.settings import load_settings
from he_infer.server.storage.spool import Spool
from he_infer.wire.refusals import Code, Refused

LENGTH = 2 * IN_MEMORY
TRIED = 20


def test_spooled_requests_of_one_client_take_a_bounded_share_of_the_disk(tmp_path: Path) -> None:
    """Requests are too small for it in most models; those of wide heads and many images are not."""
    memory = 8 * 4 * IN_MEMORY  # an eighth of it is the share of one client
    settings = load_settings(bundles=(tmp_path / "b",), bodies_in_memory=memory, max_keys=memory, max_request=memory)
    spool = Spool(tmp_path / "spool")
    go = asyncio.Event()
    refused: list[Code] = []

    async def run(function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    async def send_most(reader: BodyReader, caller: Caller) -> None:
        pieces = [bytes(1 << 20)] * (LENGTH // (1 << 20) - 1)

        async def receive() -> Message:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(), "more_body": True}
            await go.wait()
            return {"type": "http.disconnect"}

        scope = {"type": "http", "headers": [(b"content-length", str(LENGTH).encode())]}
        with suppress(ClientDisconnect):
            try:
                async with reader.whole(Request(scope, receive), caller, memory):
                    pass
            except Refused as error:
                refused.append(error.code)

    async def main() -> None:
        reader = BodyReader(settings, spool, run)
        tasks = [
            asyncio.create_task(send_most(reader, Caller("hostile", "hostile", "t", frozenset()))) for _ in range(TRIED)
        ]
        for _ in range(200):
            await asyncio.sleep(0)
        other = asyncio.create_task(send_most(reader, Caller("other", "other", "t", frozenset())))
        for _ in range(200):
            await asyncio.sleep(0)
        taken = sum(path.stat().st_size for path in spool.folder.iterdir())
        assert taken <= memory // 8 + LENGTH  # the hostile client's share, and one body of the other
        assert set(refused) == {Code.BUSY}
        assert not other.done()
        go.set()
        await asyncio.gather(*tasks, other)
        assert list(spool.folder.iterdir()) == []
        again = asyncio.create_task(send_most(reader, Caller("hostile", "hostile", "t", frozenset())))
        await again  # what was held was given back

    asyncio.run(main())
