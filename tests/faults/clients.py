"""Slow clients, vanishing clients and clients that never read their answer, beside an honest one that keeps asking."""

import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from he_infer.client.connection.session import Session
from he_infer.local_server import LocalServer
from tests.faults.kit import Everyday, alive, soon, timed
from tests.faults.outcome import Outcome
from tests.he_infer.server.support.kit import Client, client_of

OPTIONS = ["--workers", "1"]
_BIG = 24 << 20


def trouble(bundle: Path, folder: Path, each: int, seed: int = 9) -> Outcome:
    """`each` clients of every kind at once; afterwards the server holds no more sockets than before."""
    outcome = Outcome()
    everyday = Everyday(bundle, outcome, seed, largest=100_000)
    with timed(outcome), pytest.MonkeyPatch.context() as patch:
        for name in ("HEAD_SECONDS", "READ_SECONDS", "BODY_SECONDS"):
            patch.setenv(f"HE_INFER_SERVER_{name}", "3")
        with (
            LocalServer([bundle], folder, options=OPTIONS) as server,
            client_of(server) as client,
            Session(server.url, server.token) as other,
        ):
            stored = other.put_object(everyday.rng.bytes(_BIG)).id
            everyday.step(client)
            before, memory = sockets(server), resident(server)
            done = threading.Event()

            def ask_on() -> None:
                while not done.is_set():
                    everyday.try_step(client)

            honest = threading.Thread(target=ask_on)
            honest.start()
            troubled = _Troubled(client, stored, outcome)
            threads = [
                threading.Thread(target=trouble)
                for trouble in (*[troubled.slow] * each, *[troubled.vanishing] * each, *[troubled.silent] * each)
            ]
            threads += [threading.Thread(target=troubled.deaf) for _ in range(each)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            done.set()
            honest.join()
            if not soon(lambda: sockets(server) <= before + 1):
                outcome.odd.append(f"{sockets(server)} sockets are open; {before} were before")
            outcome.server_deaths += not alive(server)
            outcome.notes["megabytes before"] = memory >> 20
            outcome.notes["megabytes after"] = resident(server) >> 20
    return outcome


class _Troubled:
    def __init__(self, client: Client, stored: str, outcome: Outcome) -> None:
        self._client = client
        self._outcome = outcome
        self._body = client.enveloped(client.encrypt(_features()))
        host, port = client.server.url.removeprefix("http://").split(":")
        self._address = (host, int(port))
        path = f"/v1/models/{client.model.id}/classify"
        head = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
        self._post = f"POST {path} {head}Content-Length: {len(self._body)}\r\n\r\n".encode()
        self._get = f"GET /v1/objects/{stored} {head}\r\n".encode()

    def slow(self) -> None:
        """Send a body a little at a time, until the server cuts the connection."""
        self._outcome.injected["slow body"] += 1
        with suppress(ConnectionError), socket.create_connection(self._address, timeout=30) as connection:
            connection.sendall(self._post)
            deadline = time.monotonic() + 20
            for at in range(0, len(self._body), 200):
                connection.sendall(self._body[at : at + 200])
                time.sleep(0.05)
                if time.monotonic() > deadline:
                    self._outcome.odd.append("a slow client was not cut off")
                    return

    def vanishing(self) -> None:
        """Reset the connection (RST) in the middle of the body or before the answer."""
        self._outcome.injected["vanished"] += 1
        for share in (0.5, 1.0):
            with suppress(ConnectionError), socket.create_connection(self._address, timeout=30) as connection:
                connection.sendall(self._post + self._body[: int(len(self._body) * share)])
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def silent(self) -> None:
        """Connect and send nothing."""
        self._outcome.injected["silent"] += 1
        with suppress(ConnectionError), socket.create_connection(self._address, timeout=30) as connection:
            if connection.recv(1):
                self._outcome.odd.append("an answer without a question")

    def deaf(self) -> None:
        """Ask for a large object and read nothing of it."""
        self._outcome.injected["never reads"] += 1
        with socket.create_connection(self._address, timeout=30) as connection:
            connection.sendall(self._get)
            time.sleep(8)


def _features() -> np.ndarray:
    return np.random.default_rng(10).uniform(-1, 1, (1, 32))


def sockets(server: LocalServer) -> int:
    """Count the sockets that the server's process has open."""
    count = 0
    for link in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += str(link.readlink()).startswith("socket:")
    return count


def resident(server: LocalServer) -> int:
    """Resident memory of the server's process in bytes."""
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096
