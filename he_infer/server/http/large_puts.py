"""Bounds how many large objects of one client are written to the store at a time: each is in memory meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from he_infer.server.http.body import IN_MEMORY

AT_A_TIME = 2
"""Large objects of one client that are written at a time; the others wait on the disk, without a thread."""


class LargePuts:
    """Places for large objects, by client."""

    def __init__(self) -> None:
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, client_id: str, size: int) -> AsyncIterator[None]:
        """Wait for a place where an object of this size needs one."""
        if size <= IN_MEMORY:
            yield
            return
        places = self._places.get(client_id)
        if places is None:
            self._places[client_id] = places = asyncio.Semaphore(AT_A_TIME)
        async with places:
            yield
