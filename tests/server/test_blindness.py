"""The product's promise: after the whole flow, nothing of the plaintext is anywhere on the server's side.

Searched are the memory of the server and of its workers, its disk, log and metrics, and every body that crossed the
wire, for features, scores and the secret key in the encodings in which they occur. What must be found is searched for
by the same code: a search that finds nothing at all would prove nothing.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from he_infer.bundle import HeadBundle
from he_infer.client.local_server import LocalServer
from he_infer.client.session import Session
from tests.server.kit import Client, processes

_REGION = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r")
_PIECE = 16 << 20
_OVERLAP = 256


def memory(pid: int) -> Iterator[bytes]:
    """Every readable byte of a process, in overlapping pieces."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in maps:
            match = _REGION.match(line)
            if match is None or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(text, 16) for text in match.groups())
            for at in range(start, end, _PIECE):
                try:
                    file.seek(at)
                    yield file.read(min(end - at, _PIECE + _OVERLAP))
                except (OSError, ValueError):
                    break  # a guard page, or one that the process has given back meanwhile


def encodings(name: str, values: np.ndarray) -> dict[str, bytes]:
    """Runs of three values as they lie in memory, and single ones as text with enough digits to be no accident.

    A few of each, spread over the values: memory is large, and whoever holds one run holds all.
    """
    found = {}
    flat = np.asarray(values, dtype=np.float64).ravel()
    for kind in ("<f8", "<f4"):
        data = flat.astype(kind)
        for index in {0, len(flat) // 2, len(flat) - 3}:
            found[f"{name} {kind} at {index}"] = data[index : index + 3].tobytes()
    for index in {0, len(flat) - 1}:
        found[f"{name} text {index}"] = f"{abs(flat[index]):.9f}"[:10].encode()
    return found


class Traces:
    """Where a server leaves bytes."""

    def __init__(self, server: LocalServer, record_dir: Path) -> None:
        self._pids = processes(server.pid)
        self._folders = (server.data_dir, record_dir)
        metrics = httpx2.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {server.token}"})
        self._texts = [metrics.content]

    def search(self, fragments: dict[str, bytes]) -> dict[str, set[str]]:
        """The places where each fragment was found."""
        places: dict[str, set[str]] = {}

        def look(place: str, data: bytes) -> None:
            for name, fragment in fragments.items():
                if fragment in data:
                    places.setdefault(name, set()).add(place)

        for pid in self._pids:
            for piece in memory(pid):
                look("memory", piece)
        for folder in self._folders:
            for path in folder.rglob("*"):
                if path.is_file():
                    look("disk" if folder == self._folders[0] else "wire", path.read_bytes())
        for text in self._texts:
            look("metrics", text)
        return places


def test_nothing_of_the_plaintext_is_on_the_server_s_side(bundle: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    features = np.random.default_rng(77).uniform(-1, 1, (1, 32))
    with (
        LocalServer([bundle], tmp_path / "data", record_dir=seen, options=["--workers", "1"]) as server,
        Session(server.url, server.token) as session,
    ):
        client = Client(server, session, server.token)
        ciphertexts = client.encrypt(features)
        session.classify(client.model, client.plan, ciphertexts)
        scores = client.scores(features)
        planted = b"a sealed object stands for itself: " + np.random.default_rng(78).bytes(64)
        session.put_object(planted)
        session.get_object(next(iter(session.objects())).id)

        secret = client.secret.to_bytes()
        weights = HeadBundle.load(bundle).head.to_tensors()[0]["head.0.weight"]
        hidden = {
            **encodings("feature", features),
            **encodings("score", scores),
            **{f"secret key at {at}": secret[at : at + 24] for at in (64, len(secret) // 2, len(secret) - 64)},
        }
        known = {
            "sealed object": planted[-64:],
            "ciphertext": ciphertexts[0][200:264],
            "evaluation key": client.keys["relin"][5000:5064],
            "model weight": weights.astype("<f8").tobytes()[:24],
        }
        places = Traces(server, seen).search({**hidden, **known})
    # The control: what the server does hold is found where it is.
    assert places["sealed object"] >= {"disk", "wire"}
    assert "wire" in places["ciphertext"]
    assert places["evaluation key"] >= {"disk", "wire"}
    assert "memory" in places["model weight"]
    assert {name: where for name, where in places.items() if name in hidden} == {}


def test_the_search_finds_plaintext_that_is_there(bundle: Path, tmp_path: Path) -> None:
    features = np.random.default_rng(79).uniform(-1, 1, (1, 32))
    seen = tmp_path / "seen"
    seen.mkdir()
    with (
        LocalServer([bundle], tmp_path / "data", options=["--workers", "1"]) as server,
        Session(server.url, server.token) as session,
    ):
        session.put_object(features.astype("<f4").tobytes())  # a client that forgot to seal
        places = Traces(server, seen).search(encodings("feature", features))
    assert any("disk" in where for where in places.values())


@pytest.mark.parametrize("kind", ["<f8", "<f4"])
def test_the_search_reads_memory(kind: str) -> None:
    import os

    features = np.random.default_rng(80).uniform(-1, 1, 32)
    held = features.astype(kind)
    wanted = encodings("feature", features)
    pieces = [name for piece in memory(os.getpid()) for name, fragment in wanted.items() if fragment in piece]
    assert any(kind in name for name in pieces)
    assert held.size == 32
