"""One client process of the load: sends at times drawn beforehand, independent of earlier answers (open loop).

Reads its orders as JSON from standard input, and writes a JSON list of each request's outcome to standard output.
Nothing is sent twice: a refusal is a result.
"""

import asyncio
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from he_infer.wire import envelope as wire
from tests.load.lean_http import LeanClient

_SECONDS = 60.0


class Sender:
    """Seals the same ciphertexts anew for each request and sends them."""

    def __init__(self, orders: dict[str, Any], http: LeanClient) -> None:
        self._orders = orders
        self._http = http
        self._parts = tuple((f"ct{i}", Path(name).read_bytes()) for i, name in enumerate(orders["parts"]))
        self._path = f"/v1/models/{orders['model']}/classify"
        self.results: list[dict[str, Any]] = []

    async def send(self, due: float) -> None:
        """Send one request, due at a time of the monotonic clock; its latency counts from that time."""
        stamp = {"nonce": secrets.token_hex(16), "time": int(time.time() * 1000)}
        header = {
            "model": self._orders["model"],
            "plan": self._orders["plan"],
            "key_set": self._orders["key_set"],
            **stamp,
        }
        body = wire.Envelope(wire.Kind.REQUEST, header, self._parts).encode()
        result: dict[str, Any] = {"due": due}
        try:
            answer = await self._http.post(self._path, body, _SECONDS)
            result["status"] = answer.status
            result["retry_after"] = answer.headers.get("retry-after")
        except OSError as error:
            result["status"] = 0
            result["error"] = type(error).__name__
        result["latency"] = time.monotonic() - due
        self.results.append(result)


async def open_loop(orders: dict[str, Any], sender: Sender) -> None:
    """Poisson arrivals at a rate."""
    rng = np.random.default_rng(orders["seed"])
    tasks, due, end = [], orders["begin"], orders["begin"] + orders["seconds"]
    while (due := due + float(rng.exponential(1.0 / orders["rate"]))) < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.create_task(sender.send(due)))
    await asyncio.gather(*tasks)


async def closed_loop(orders: dict[str, Any], sender: Sender) -> None:
    """A number of requests at a time, each followed by the next at once: what the server can do."""
    end = orders["begin"] + orders["seconds"]
    await asyncio.sleep(max(0.0, orders["begin"] - time.monotonic()))

    async def one() -> None:
        while time.monotonic() < end:
            await sender.send(time.monotonic())

    await asyncio.gather(*(one() for _ in range(orders["at_once"])))


async def main() -> None:
    """Carry out the orders."""
    orders = json.load(sys.stdin)
    http = LeanClient(orders["url"], orders["token"])
    sender = Sender(orders, http)
    await (open_loop if "rate" in orders else closed_loop)(orders, sender)
    http.close()
    json.dump(sender.results, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
