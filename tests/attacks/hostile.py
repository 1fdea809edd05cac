"""Hostile clients: each kind attacks from a process of its own, with an ordinary token, until it is ended."""

import contextlib
import hashlib
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import zstandard

from he_infer.ckks.packing import pack
from he_infer.ckks.trial import draw_keys
from he_infer.client.connection.session import Session
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.served_model import ServedModel
from he_infer.errors import HeInferError
from he_infer.wire.key_set import new_key_set

THREADS = 4
NICE = 5
"""Added niceness: a real attacker has a machine of its own, and this one has to share the server's."""


@dataclass
class Attacker:
    """A hostile client: its token, and the information that every client has."""

    url: str
    token: str
    session: Session
    model: ServedModel

    @property
    def keys_path(self) -> str:
        return f"/v1/keys/{self.model.plans[0].digest}/{secrets.token_hex(16)}"

    @property
    def classify_path(self) -> str:
        return f"/v1/models/{self.model.id}/classify"

    def begin(self, method: str, path: str, *headers: str) -> "contextlib.AbstractContextManager[object]":
        """Open a raw connection and send a request's head."""
        import socket

        parts = urlsplit(self.url)
        connection = socket.create_connection((parts.hostname, parts.port), timeout=5)
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.token}", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        return connection


def flood(attacker: Attacker) -> None:
    """Send valid questions, one after the other, from several threads."""
    plan = attacker.model.plans[0]
    secret, key_set = SecretKey.generate(plan.parameters), new_key_set()
    attacker.session.register(plan, key_set, secret.evaluation_keys(plan))
    question = secret.encrypt(pack(plan, np.zeros((1, plan.width))), plan.input_scale)
    while True:
        with contextlib.suppress(HeInferError):
            attacker.session.classify(attacker.model, plan, key_set, question)


def rotate(attacker: Attacker) -> None:
    """Ask with many key sets in turn, so that the workers hold other keys than the honest client's."""
    plan = attacker.model.plans[0]
    secret = SecretKey.generate(plan.parameters)
    keys, names = secret.evaluation_keys(plan), [new_key_set() for _ in range(60 // THREADS)]
    question = secret.encrypt(pack(plan, np.zeros((1, plan.width))), plan.input_scale)
    registered = []
    while True:
        with contextlib.suppress(HeInferError):
            if names:
                attacker.session.register(plan, names[-1], keys)
                registered.append(names.pop())
            for name in registered:
                attacker.session.classify(attacker.model, plan, name, question)


def knock(attacker: Attacker) -> None:
    """Ask without a token, and with tokens that nobody has, for whatever the server answers then."""
    import httpx2

    with httpx2.Client() as http:
        while True:
            for path in ("/readyz", "/v1/info", "/healthz", "/openapi.json", "/v1/models"):
                token = f"hei_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"
                with contextlib.suppress(httpx2.HTTPError):
                    http.get(attacker.url + path, headers={"Authorization": f"Bearer {token}"})


def register(attacker: Attacker) -> None:
    """Register keys of the right shape and delete them, again and again."""
    plan = attacker.model.plans[0]
    keys = draw_keys(plan)
    while True:
        with contextlib.suppress(HeInferError):
            name = new_key_set()
            attacker.session.register(plan, name, keys)
            attacker.session.forget_keys(plan.digest, name)


def inflate(attacker: Attacker) -> None:
    """Send keys that are small on the wire and inflate to 512 MiB."""
    plan = attacker.model.plans[0]
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(512 << 20))
    part = struct.pack("<2sBBBBHQ", b"\x5e\xa1", 16, 4, 3, 2, 0, 16 + len(bomb)) + bomb
    keys = {**draw_keys(plan), "galois": part}
    while True:
        with contextlib.suppress(HeInferError):
            attacker.session.register(plan, new_key_set(), keys)


def smuggle(attacker: Attacker) -> None:
    """State the body's length twice, and send as many bytes as the server takes."""
    piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    while True:
        headers = ("Content-Length: 10", "Transfer-Encoding: chunked")
        with contextlib.suppress(OSError), attacker.begin("POST", attacker.classify_path, *headers) as connection:
            while True:
                connection.sendall(piece)  # type: ignore[attr-defined]  # a socket


def idle(attacker: Attacker) -> None:
    """Announce two hundred large bodies and send none of them."""
    while True:
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for _ in range(200 // THREADS):
                held.enter_context(attacker.begin("POST", attacker.classify_path, "Content-Length: 300000"))
            time.sleep(10)


def hoard(attacker: Attacker) -> None:
    """Send sealed objects of 64 MiB and never finish them."""
    while True:
        headers = (f"Content-Length: {64 << 20}", f"X-Content-SHA256: {'0' * 64}")
        path = f"/v1/objects/{secrets.token_hex(16)}"
        with contextlib.suppress(OSError), attacker.begin("PUT", path, *headers) as connection:
            for _ in range(63):
                connection.sendall(bytes(1 << 20))  # type: ignore[attr-defined]  # a socket
            time.sleep(5)


def garble(attacker: Attacker) -> None:
    """Send envelopes of random bytes."""
    import httpx2

    headers = {"Authorization": f"Bearer {attacker.token}"}
    with httpx2.Client(headers=headers) as http:
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                http.post(attacker.url + attacker.classify_path, content=b"HEIW" + secrets.token_bytes(100_000))


def download(attacker: Attacker) -> None:
    """Read a sealed object of 64 MiB again and again, on four connections of each thread."""
    import httpx2

    name = f"/v1/objects/{secrets.token_hex(16)}"
    data = secrets.token_bytes(64 << 20)
    headers = {"Authorization": f"Bearer {attacker.token}"}
    digest = {"X-Content-SHA256": hashlib.sha256(data).hexdigest()}
    with httpx2.Client(headers=headers, timeout=60.0) as http:
        http.put(attacker.url + name, content=data, headers=digest)

        def read_on() -> None:
            while True:
                with contextlib.suppress(httpx2.HTTPError), http.stream("GET", attacker.url + name) as response:
                    for _ in response.iter_raw():
                        pass

        for _ in range(3):
            threading.Thread(target=read_on, daemon=True).start()
        read_on()


KINDS: dict[str, Callable[[Attacker], None]] = {
    "flood": flood,
    "key sets in turn": rotate,
    "no token": knock,
    "registrations": register,
    "inflated keys": inflate,
    "smuggled lengths": smuggle,
    "idle sockets": idle,
    "unfinished objects": hoard,
    "noise": garble,
    "downloads": download,
}


def attack(kind: str, url: str, token: str) -> None:
    """Attack until this process is ended. See `NICE` for its priority."""
    os.nice(NICE)
    with Session(url, token, patience=0) as session:
        attacker = Attacker(url, token, session, session.models()[0])
        for _ in range(THREADS):
            threading.Thread(target=KINDS[kind], args=(attacker,), daemon=True).start()
        time.sleep(3600)
