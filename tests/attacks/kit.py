"""Tools of the attacks: raw connections to a server, and the memory of its processes."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np

from he_infer.local_server import LocalServer
from tests.he_infer.server.support.kit import Client
from tests.he_infer.server.support.processes import worker_pids

FEATURES = np.random.default_rng(7).uniform(-1, 1, (1, 32))


@dataclass
class Scene:
    """A server, an honest client and a hostile one."""

    server: LocalServer
    honest: Client
    hostile: str
    """Ordinary token of the hostile client."""
    small: str
    """Token of a third client, whose storage quota is 1 MiB."""
    bundle: Path
    read: int = 0
    """Length of the log that has been checked."""

    def still_serves(self) -> None:
        """Check that the honest client gets its answer."""
        assert self.honest.scores(FEATURES).shape == (1, 3)

    def no_defect(self) -> None:
        """Check that the server's log has no defect and no traceback since the last check."""
        with self.server.log_path.open(encoding="utf-8", errors="replace") as file:
            file.seek(self.read)
            text = file.read()
            self.read = file.tell()
        assert '"event": "defect"' not in text
        assert "Traceback" not in text

    def worker_pids(self) -> list[int]:
        """Return the server's worker processes."""
        return worker_pids(self.server)


def connect(server: LocalServer) -> socket.socket:
    """Open a raw connection."""
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def begin(server: LocalServer, method: str, path: str, token: str, *headers: str) -> socket.socket:
    """Open a raw connection and send the head of a request."""
    connection = connect(server)
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def read_answer(connection: socket.socket) -> tuple[int, str, bool]:
    """Return an answer's status and error code, and whether the server closes the connection after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return 0, "closed", True
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length")]
    if not lengths:  # the HTTP parser's own refusal is a text
        return int(head.split()[1]), "HTTP", True
    while len(body) < lengths[0]:
        body += connection.recv(65536)
    code = json.loads(body)["error"]["code"] if body else ""
    return int(head.split()[1]), code, b"connection: close" in head.lower()


def resident(pid: int) -> int:
    """Return the memory of a process in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")))


@contextmanager
def knocking(url: str, headers: Callable[[], dict[str, str]], *, connections: int) -> Iterator[list[int]]:
    """Ask from several connections until the context ends; gives the statuses of the answers."""
    statuses: list[int] = []
    done = threading.Event()

    def knock() -> None:
        with httpx2.Client(timeout=60.0) as http:
            while not done.is_set():
                statuses.append(http.get(url, headers=headers()).status_code)

    threads = [threading.Thread(target=knock) for _ in range(connections)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        done.set()
        for thread in threads:
            thread.join()
