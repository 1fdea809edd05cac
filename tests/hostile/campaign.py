"""A campaign of hostile messages against a running server: what is sent, and what may come back.

Each message is made from an honest one by one mutation, drawn from a seeded generator. Some keep the MAC right (an
attacker who holds a token), so that they reach the parser in the worker.
"""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx2
import numpy as np

from he_infer import wire
from he_infer.refusals import REFUSALS, Code
from tests.server.kit import Client

# What a hostile message may be answered with. Not among them: internal, damaged, storage.
EXPECTED = frozenset(Code) - {Code.INTERNAL, Code.DAMAGED, Code.STORAGE}


@dataclass
class Outcome:
    """Counts of one campaign."""

    sent: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    undocumented: list[str] = field(default_factory=list)
    honest: int = 0
    honest_wrong: int = 0

    def __str__(self) -> str:
        return (
            f"sent {sum(self.sent.values())} ({dict(self.sent)}); refused {dict(self.refused)}; accepted "
            f"{dict(self.accepted)}; undocumented {len(self.undocumented)}; honest requests {self.honest}, wrong "
            f"{self.honest_wrong}"
        )


class Mutations:
    """The kinds of hostile message.

    Args:
        client: an honest client, whose messages are mutated.
        other: a client of another tenant.
        features: (1, width) what the honest client asks about.
        seed: of the generator.
    """

    def __init__(self, client: Client, other: Client, features: np.ndarray, seed: int) -> None:
        self._client = client
        self._other = other
        self._rng = np.random.default_rng(seed)
        self._parts = client.encrypt(features)
        self._foreign = other.encrypt(features)
        self._keys = client.keys
        self.kinds: dict[str, Callable[[], bytes]] = {
            "random": self._random,
            "random after magic": lambda: b"HEIW" + self._random(),
            "flipped": lambda: self._flip(self._sealed(self._parts)),
            "truncated": self._truncated,
            "lengthened": lambda: self._sealed(self._parts) + b"\0" + self._random(),
            "spliced": self._spliced,
            "wrong tenant": lambda: other.sealed(self._foreign),
            "resealed flip": lambda: self._sealed([self._flip(part) for part in self._parts]),
            "resealed cut": lambda: self._sealed([part[: self._at(part)] for part in self._parts]),
            "resealed noise": lambda: self._sealed([self._noise(part) for part in self._parts]),
            "resealed header": self._resealed_header,
            "wrong object": lambda: self._sealed([self._keys["galois"][:4096] for _ in self._parts]),
            "foreign ciphertext": lambda: self._sealed(self._foreign),
            "wrong count": lambda: self._sealed(self._parts * int(self._rng.integers(2, 5))),
        }

    def draw(self) -> tuple[str, bytes]:
        """A kind and a message of it."""
        kind = str(self._rng.choice(list(self.kinds)))
        return kind, self.kinds[kind]()

    def _sealed(self, parts: Sequence[bytes]) -> bytes:
        return self._client.sealed(list(parts))

    def _random(self) -> bytes:
        return self._rng.bytes(int(self._rng.integers(0, 2000)))

    def _at(self, data: bytes) -> int:
        return int(self._rng.integers(0, len(data)))

    def _flip(self, data: bytes) -> bytes:
        changed = bytearray(data)
        # The first bytes hold the headers of every format within; they deserve half of the flips.
        limit = len(data) if self._rng.integers(2) else min(len(data), 120)
        for _ in range(int(self._rng.integers(1, 4))):
            changed[int(self._rng.integers(0, limit))] ^= int(self._rng.integers(1, 256))
        return bytes(changed)

    def _noise(self, data: bytes) -> bytes:
        keep = int(self._rng.integers(0, min(64, len(data))))
        return data[:keep] + self._rng.bytes(len(data) - keep)

    def _truncated(self) -> bytes:
        good = self._sealed(self._parts)
        return good[: self._at(good)]

    def _spliced(self) -> bytes:
        one, two = self._sealed(self._parts), self._sealed(self._parts)
        at = self._at(one)
        return one[:at] + two[at:]

    def _resealed_header(self) -> bytes:
        changes: list[dict[str, object]] = [
            {"time": int(self._rng.integers(-(2**62), 2**62))},
            {"nonce": secrets.token_hex(int(self._rng.integers(17, 40)))},
            {"plan": secrets.token_hex(32)},
            {"model": None},
            {"more": "x" * int(self._rng.integers(0, 1000))},
            {"plan": ["nested", {"deep": [1, 2, 3]}]},
        ]
        return self._client.sealed(self._parts, **changes[int(self._rng.integers(len(changes)))])


def run(client: Client, mutations: Mutations, count: int, ask_honestly: Callable[[], bool]) -> Outcome:
    """Send `count` hostile messages, while an honest client asks again and again.

    `ask_honestly` makes one honest request and returns whether its answer was right.
    """
    outcome = Outcome()
    done = threading.Event()

    def honest() -> None:
        while not done.is_set():
            outcome.honest_wrong += not ask_honestly()
            outcome.honest += 1
            time.sleep(0.02)

    thread = threading.Thread(target=honest)
    thread.start()
    url = f"{client.server.url}/v1/models/{client.model.id}/classify"
    try:
        with httpx2.Client(headers={"Authorization": f"Bearer {client.token}"}, timeout=60.0) as http:
            for _ in range(count):
                kind, body = mutations.draw()
                outcome.sent[kind] += 1
                _judge(outcome, kind, http.post(url, content=body))
    finally:
        done.set()
        thread.join()
    return outcome


def _judge(outcome: Outcome, kind: str, response: httpx2.Response) -> None:
    if response.status_code == 200 and response.content.startswith(wire.MAGIC):
        outcome.accepted[kind] += 1
        return
    try:
        error = response.json()["error"]
        code = Code(error["code"])
        fitting = response.status_code == REFUSALS[code].status and error["message"] and error["request_id"]
    except (ValueError, KeyError, TypeError):
        code, fitting = Code.INTERNAL, False
    if fitting and code in EXPECTED:
        outcome.refused[code.value] += 1
    else:
        outcome.undocumented.append(f"{kind}: {response.status_code} {response.text[:200]}")
