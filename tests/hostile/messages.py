"""Messages of hostile clients to the server: an honest message with one fault each.

Each kind is drawn from a seeded generator. Some are right in form (an attacker who holds a token), so that they reach
the parser in the worker; some are not HTTP at all.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from he_infer.ckks.engines.seal import context
from he_infer.ckks.parameters import Parameters
from he_infer.client.keys.secret_key import SecretKey
from he_infer.wire import envelope as wire
from tests.he_infer.server.support.kit import Client
from tests.hostile import forgeries

OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Message:
    """One request, or, without a method, bytes for the bare socket."""

    method: str
    path: str
    body: bytes = field(repr=False)
    token: str | None = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict)


class Mutations:
    """The kinds of hostile message.

    Args:
        client: the attacker's own account, whose messages are mutated.
        victim: a client of another tenant.
        stored: id of an object of the victim's.
        features: (1, width), the query of the messages.
        seed: seed of the generator.
    """

    def __init__(self, client: Client, victim: Client, stored: str, features: np.ndarray, seed: int) -> None:
        self._client = client
        self._victim = victim
        self._stored = stored
        self._rng = np.random.default_rng(seed)
        self._parts = client.encrypt(features)
        self._foreign = victim.encrypt(features)
        self._keys = client.keys
        self._accepted = client.enveloped(self._parts)
        assert client.post(self._accepted).status_code == 200
        self._secret = client.secret.to_bytes()[6 + len(client.plan.parameters.modulus_bits) - 1 :]
        self._strangers = [ciphertext_of(parameters) for parameters in other_parameters(client.plan.parameters)]
        chain = context(client.plan.parameters)
        self._fresh_id = list(chain.first_context_data().parms_id())
        self._key_id = list(chain.key_context_data().parms_id())
        self.kinds: dict[str, Callable[[], Message]] = {
            "random": lambda: self._ask(self._random()),
            "random after magic": lambda: self._ask(b"HEIW" + self._random()),
            "flipped": lambda: self._ask(self._flip(self._sealed(self._parts))),
            "truncated": lambda: self._ask(self._cut(self._sealed(self._parts))),
            "lengthened": lambda: self._ask(self._sealed(self._parts) + b"\0" + self._random()),
            "spliced": lambda: self._ask(self._splice(self._sealed(self._parts), self._sealed(self._parts))),
            "replayed": lambda: self._ask(self._accepted),
            "wrong tenant's key set": lambda: self._ask(client.enveloped(self._parts, key_set=victim.key_set)),
            "wrong tenant's token": lambda: self._ask(self._sealed(self._parts), token=victim.token),
            "wrong tenant's ciphertext": lambda: self._ask(self._sealed(self._foreign)),
            "wrong tenant's object": self._foreign_object,
            "no such token": lambda: self._ask(self._sealed(self._parts), token=self._other_token()),
            "resealed flip": lambda: self._ask(self._sealed([self._flip(part) for part in self._parts])),
            "resealed cut": lambda: self._ask(self._sealed([self._cut(part) for part in self._parts])),
            "resealed splice": lambda: self._ask(
                self._sealed([self._splice(one, two) for one, two in zip(self._parts, self._foreign, strict=True)])
            ),
            "resealed noise": lambda: self._ask(self._sealed([self._noise(part) for part in self._parts])),
            "resealed header": lambda: self._ask(self._wrong_header()),
            "wrong parameters": lambda: self._ask(self._sealed([self._stranger()])),
            "wrong object": lambda: self._ask(self._sealed([self._keys["galois"][:4096] for _ in self._parts])),
            "wrong count": lambda: self._ask(self._sealed(self._parts * int(self._rng.integers(2, 5)))),
            "boast or bomb": lambda: self._ask(
                self._sealed([forgeries.disguised(forgeries.boastful_ciphertext(self._fresh_id, self._rng), self._rng)])
            ),
            "secret key": lambda: self._ask(self._sealed([self._secret])),
            "keys": self._hostile_keys,
            "object": self._hostile_object,
            "request line and headers": self._odd_request,
            "not HTTP": lambda: Message("", "", self._not_http(), None),
        }

    def draw(self) -> tuple[str, Message]:
        """A kind and a message of it."""
        names = list(self.kinds)
        kind = names[int(self._rng.integers(len(names)))]
        return kind, self.kinds[kind]()

    def _ask(self, body: bytes, token: str | None = None) -> Message:
        path = f"/v1/models/{self._client.model.id}/classify"
        return Message("POST", path, body, token or self._client.token, OCTETS)

    def _sealed(self, parts: Sequence[bytes]) -> bytes:
        return self._client.enveloped(list(parts))

    def _random(self) -> bytes:
        return self._rng.bytes(int(self._rng.integers(0, 2000)))

    def _at(self, data: bytes) -> int:
        return int(self._rng.integers(0, len(data)))

    def _flip(self, data: bytes) -> bytes:
        return flipped(data, self._rng, most=3)

    def _cut(self, data: bytes) -> bytes:
        return data[: self._at(data)]

    def _splice(self, one: bytes, two: bytes) -> bytes:
        at = int(self._rng.integers(0, min(len(one), len(two))))
        return one[:at] + two[at:]

    def _noise(self, data: bytes) -> bytes:
        keep = int(self._rng.integers(0, min(64, len(data))))
        return data[:keep] + self._rng.bytes(len(data) - keep)

    def _stranger(self) -> bytes:
        return self._strangers[int(self._rng.integers(len(self._strangers)))]

    def _other_token(self) -> str:
        token = self._client.token
        choices = [
            token[:-1] + ("A" if token[-1] != "A" else "B"),
            f"hei_{secrets.token_hex(8)}_{'x' * 43}",
            "hei_",
            "é",
        ]
        return choices[int(self._rng.integers(len(choices)))]

    def _foreign_object(self) -> Message:
        method = ("GET", "DELETE", "GET")[int(self._rng.integers(3))]
        return Message(method, f"/v1/objects/{self._stored}", b"", self._client.token)

    def _wrong_header(self) -> bytes:
        changes: list[dict[str, object]] = [
            {"time": int(self._rng.integers(-(2**62), 2**62))},
            {"nonce": secrets.token_hex(int(self._rng.integers(17, 40)))},
            {"nonce": "0" * 32, "time": True},
            {"plan": secrets.token_hex(32)},
            {"model": None},
            {"model": "another"},
            {"more": "x" * int(self._rng.integers(0, 1000))},
            {"plan": ["nested", {"deep": [1, 2, 3]}]},
        ]
        return self._client.enveloped(self._parts, **changes[int(self._rng.integers(len(changes)))])

    def _hostile_keys(self) -> Message:
        """A registration that must be refused, so that the attacker's own keys stay as they are."""
        name = ("galois", "relin")[int(self._rng.integers(2))]
        good = self._keys[name]
        boast = forgeries.boastful_keys(self._key_id, self._rng)
        forged: list[dict[str, bytes]] = [
            {**self._keys, name: self._cut(good)},
            {**self._keys, name: good[:100] + self._random()},
            {**self._keys, name: self._parts[0]},
            {**self._keys, name: self._secret},
            {**self._keys, name: self._stranger()},
            {**self._keys, name: forgeries.disguised(boast, self._rng)},
            {**self._keys, "secret": self._secret},
            {**self._keys, "more": b"x"},
            {"relin": self._keys["relin"]},
            {},
        ]
        parts = forged[int(self._rng.integers(len(forged)))]
        stamp = {"nonce": secrets.token_hex(16), "time": wire_time()}
        plan = self._client.plan.digest
        header = {"plan": plan, "key_set": secrets.token_hex(16), **stamp}
        body = wire.Envelope(wire.Kind.KEYS, header, tuple(parts.items())).encode()
        return Message("PUT", f"/v1/keys/{plan}/{header['key_set']}", body, self._client.token, OCTETS)

    def _hostile_object(self) -> Message:
        """A store or a read that must be refused."""
        name, body = secrets.token_hex(16), self._random() + b"x"
        right = {"X-Content-SHA256": "0" * 64}
        token = self._client.token
        messages = [
            Message("PUT", f"/v1/objects/{name}", body, token, right),
            Message("PUT", f"/v1/objects/{name}", body, token, {"X-Content-SHA256": "z"}),
            Message("PUT", f"/v1/objects/{name}", body, token),
            Message("PUT", f"/v1/objects/{name.upper()}", body, token, right),
            Message("PUT", f"/v1/objects/..%2F..%2F{name}", body, token, right),
            Message("GET", "/v1/objects/..%2F..%2Fmetadata.sqlite3", b"", token),
            Message("GET", f"/v1/objects/{name}", b"", token, {"Range": f"bytes={self._random().hex()}"}),
            Message("GET", "/v1/objects?limit=-1", b"", token),
            Message("GET", "/v1/objects?after=%27%20OR%201=1--", b"", token),
        ]
        return messages[int(self._rng.integers(len(messages)))]

    def _odd_request(self) -> Message:
        path = f"/v1/models/{self._client.model.id}/classify"
        token = self._client.token
        messages = [
            Message("PATCH", path, b"x", token),
            Message("POST", path.replace(self._client.model.id, "..%2f.."), b"x", token),
            Message("POST", path.replace(self._client.model.id, "no-such-model"), b"x", token),
            Message("GET", f"/{self._rng.bytes(40).hex()}", b"", token),
            Message("GET", "/metrics", b"", token),
            Message(
                "POST", path, json.dumps({"parts": "x" * 100}).encode(), token, {"Content-Type": "application/json"}
            ),
            Message("POST", path, b"x", None),
            Message("DELETE", f"/v1/keys/{'0' * 64}/{'0' * 32}", b"", token),
        ]
        return messages[int(self._rng.integers(len(messages)))]

    def _not_http(self) -> bytes:
        token = self._client.token
        post = (
            f"POST /v1/models/{self._client.model.id}/classify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        )
        choices = [
            self._rng.bytes(int(self._rng.integers(1, 400))) + b"\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self._rng.bytes(40) + b"\r\n\r\n",  # a TLS hello
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
            post.encode() + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxx",
            post.encode() + b"Content-Length: -1\r\n\r\n",
            post.encode() + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nZZ\r\n",
            post.encode() + b"X: " + self._rng.bytes(30).replace(b"\n", b"") + b"\x00\r\n\r\n",
        ]
        return choices[int(self._rng.integers(len(choices)))]


def flipped(data: bytes, rng: np.random.Generator, most: int) -> bytes:
    """The data with one to `most` bytes changed."""
    changed = bytearray(data)
    # The first bytes hold the headers of every format within; they deserve half of the flips.
    limit = len(data) if rng.integers(2) else min(len(data), 120)
    for _ in range(int(rng.integers(1, most + 1))):
        changed[int(rng.integers(0, limit))] ^= int(rng.integers(1, 256))
    return bytes(changed)


def wire_time() -> int:
    """Now, as an envelope states it."""
    import time

    return int(time.time() * 1000)


def other_parameters(own: Parameters) -> list[Parameters]:
    """Sound parameters that are not the plan's: another ring, another chain, another first prime.

    The special prime is no part of a ciphertext: one made with another special prime has the right form.
    """
    bits = own.modulus_bits
    candidates = [
        Parameters(4096, (36, 34, 36)),
        Parameters(8192, (50, 40, 40, 50)),
        Parameters(16384, (60, 40, 40, 60)),
        Parameters(own.ring_size, (bits[0] - 1, *bits[1:])),
    ]
    return [parameters for parameters in candidates if parameters != own]


def ciphertext_of(parameters: Parameters) -> bytes:
    slots = np.random.default_rng(1).uniform(-1, 1, parameters.slots)
    return SecretKey.generate(parameters).encrypt([slots], 2.0**30)[0]
