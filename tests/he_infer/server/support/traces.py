"""For the audit of blindness: the places where a server leaves bytes, and the encodings of secrets."""

import base64
import contextlib
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from he_infer.local_server import LocalServer
from tests.he_infer.server.support.processes import processes, worker_pids

_REGION = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (r[w-])[x-]. \S+ \S+ (\d+)\s*(.*)$")
_PIECE = 16 << 20
_OVERLAP = 256


def memory(pid: int) -> Iterator[bytes]:
    """Yield the memory of a process in overlapping pieces, as a core dump would have it.

    That is all readable memory but what is mapped read-only from files on disk: programs and their libraries.
    """
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = _REGION.match(line)
            if match is None or match[5].startswith("[v"):
                continue
            if match[3] == "r-" and match[4] != "0" and match[5].startswith("/"):
                continue
            start, end = int(match[1], 16), int(match[2], 16)
            for at in range(start, end, _PIECE):
                try:
                    file.seek(at)
                    yield file.read(min(end - at, _PIECE + _OVERLAP))
                except (OSError, ValueError):
                    break  # a guard page, or one that the process has given back meanwhile


class RecordingProxy:
    """Passes TCP on to a server, both ways, and keeps every byte: a capture of the wire."""

    def __init__(self, server: LocalServer) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._streams: list[bytearray] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def captured(self) -> list[bytes]:
        """The bytes of each connection and direction."""
        return [bytes(stream) for stream in self._streams]

    def close(self) -> None:
        """Take no more connections, and wait for the end of those there are: close the clients first."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._relay, args=(client,)))
            self._threads[-1].start()

    def _relay(self, client: socket.socket) -> None:
        up, down = bytearray(), bytearray()
        self._streams += [up, down]
        with client, socket.create_connection(self._target) as server:
            answering = threading.Thread(target=_pass_on, args=(server, client, down))
            answering.start()
            _pass_on(client, server, up)
            answering.join()


def _pass_on(source: socket.socket, sink: socket.socket, stream: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            stream += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def numbers(name: str, values: np.ndarray) -> dict[str, bytes]:
    """Runs of numbers in the forms in which they occur: binary of both widths and byte orders, hex, base64, text.

    Runs of three from the start, the middle and the end: memory is large, and whoever holds one run holds all.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    found: dict[str, bytes] = {}
    for index in sorted({0, len(flat) // 2, len(flat) - 3} if len(flat) > 5 else {0}):
        run = flat[index : index + 3]
        for kind in ("<f8", "<f4", ">f8", ">f4"):
            found[f"{name}: {kind} at {index}"] = run.astype(kind).tobytes()
    for kind in ("<f8", "<f4"):
        found |= spelled(f"{name}: {kind}", flat.astype(kind).tobytes()[:48])
    for index in (0, len(flat) - 1):
        found[f"{name}: text at {index}"] = f"{abs(flat[index]):.9f}"[:10].encode()
        found[f"{name}: exponent at {index}"] = f"{abs(flat[index]):.7e}"[:9].encode()
    return found


def pixels(name: str, image: np.ndarray) -> dict[str, bytes]:
    """A row of 8-bit pixels as bytes, as wider words of both orders, as numbers from 0 to 1, and as text."""
    row = image[len(image) // 2]
    found = {f"{name}: bytes": row.tobytes()}
    for kind in ("<u2", ">u2", "<i4", "<f4", "<f8"):
        found[f"{name}: {kind}"] = row.astype(kind).tobytes()[:64]
    for kind in ("<f4", "<f8"):
        found[f"{name}: {kind} of one"] = (row / 255).astype(kind).tobytes()[:64]
    found |= spelled(name, row.tobytes())
    found[f"{name}: list"] = ", ".join(map(str, row[:8])).encode()
    return found


def spelled(name: str, data: bytes) -> dict[str, bytes]:
    """Bytes in hex of both cases, and in base64 at each of the three places where a group may begin."""
    found = {f"{name}: hex": data[:24].hex().encode(), f"{name}: HEX": data[:24].hex().upper().encode()}
    for shift in range(3):
        found[f"{name}: base64 at {shift}"] = base64.b64encode(data[shift : shift + 24])
    return found


def secret_key(raw: Any, serialized: bytes) -> dict[str, bytes]:
    """A SEAL secret key as it is serialized (compressed), and its polynomial's coefficients as they lie in memory."""
    found: dict[str, bytes] = {}
    for at in (64, len(serialized) // 2, len(serialized) - 64):
        found[f"secret key: serialized at {at}"] = serialized[at : at + 24]
    found |= spelled("secret key: serialized", serialized[len(serialized) // 3 :])
    polynomial = raw.data()
    count = polynomial.coeff_count()
    for at in (0, count // 2, count - 4):
        run = np.array([polynomial[at + step] for step in range(4)], dtype=np.uint64)
        found[f"secret key: words at {at}"] = run.astype("<u8").tobytes()
        found[f"secret key: swapped words at {at}"] = run.astype(">u8").tobytes()
        found[f"secret key: text at {at}"] = str(int(run[0])).encode()
    return found


def places(server: LocalServer, proxy: RecordingProxy, operator: str) -> Iterator[tuple[str, bytes]]:
    """All bytes of a server, with the name of the place where each lies."""
    workers = set(worker_pids(server))
    for pid in processes(server.pid):
        where = "memory of a worker" if pid in workers else "memory of the server"
        yield from ((where, piece) for piece in memory(pid))
    for path in server.data_dir.rglob("*"):
        if path.is_file():
            name = path.name
            database = name.startswith("metadata.sqlite3")
            yield "database" if database else "log" if path == server.log_path else "disk", path.read_bytes()
    metrics = httpx2.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {operator}"})
    assert metrics.status_code == 200
    yield "metrics", metrics.content
    yield from (("wire", stream) for stream in proxy.captured)


def search(where: Iterator[tuple[str, bytes]], fragments: Mapping[str, bytes]) -> dict[str, set[str]]:
    """Find the places where each fragment occurs.

    Of each fragment one word of four bytes is looked up among all words of the data, at every offset; only where it
    occurs is the whole fragment searched for. A search for each fragment on its own would take minutes.
    """
    by_word: dict[int, list[str]] = {}
    for name, fragment in fragments.items():
        by_word.setdefault(_rarest_word(fragment), []).append(name)
    words = np.array(sorted(by_word), dtype=np.uint32)
    likely = np.zeros(1 << 16, dtype=bool)
    likely[_scatter(words)] = True
    found: dict[str, set[str]] = {}
    for place, data in where:
        for name in sorted(_candidates(data, words, likely, by_word)):
            if place not in found.get(name, ()) and fragments[name] in data:
                found.setdefault(name, set()).add(place)
    return found


def _rarest_word(fragment: bytes) -> int:
    """The word of a fragment with most different bytes: least likely to be found by chance."""
    best = max(range(len(fragment) - 3), key=lambda at: len(set(fragment[at : at + 4])))
    return int.from_bytes(fragment[best : best + 4], "little")


def _scatter(words: np.ndarray) -> np.ndarray:
    return (words * np.uint32(2654435761)) >> np.uint32(16)


def _candidates(data: bytes, words: np.ndarray, likely: np.ndarray, by_word: dict[int, list[str]]) -> set[str]:
    names: set[str] = set()
    for shift in range(4):
        count = (len(data) - shift) // 4
        if count <= 0:
            continue
        here = np.frombuffer(data, dtype="<u4", count=count, offset=shift)
        some = here[likely[_scatter(here)]]
        for word in np.intersect1d(some, words):
            names.update(by_word[int(word)])
    return names
