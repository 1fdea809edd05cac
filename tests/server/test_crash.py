"""SIGKILL of the server at random moments: what was acknowledged is there afterwards, and nothing is there by half."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from he_infer.client.local_server import LocalServer
from he_infer.client.session import Session
from he_infer.errors import FormatError, ServerError
from he_infer.server import audit
from he_infer.server.service import AUDIT_FILE
from tests.server.kit import Client


def kill_at_random(bundle: Path, folder: Path, rounds: int) -> tuple[int, int]:
    """Kill the server at random moments of registering, storing and classifying; after each, look for what was lost.

    Returns:
        How many objects were acknowledged, and how many requests were cut off.
    """
    rng = np.random.default_rng(rounds)
    token = ""
    kept: dict[str, bytes] = {}
    plan = ""
    cut_off = 0
    for _ in range(rounds):
        server = LocalServer([bundle], folder, token=token or None, options=["--workers", "1"]).start()
        token = server.token
        killer = threading.Timer(float(rng.uniform(0.05, 1.0)), server.kill)
        with Session(server.url, token, patience=0) as session:
            assert {entry.id for entry in session.objects()} >= set(kept)
            for object_id, data in kept.items():
                assert session.get_object(object_id) == data
            for entry in session.objects():  # what was not acknowledged is whole, too, or not there at all
                assert hashlib.sha256(session.get_object(entry.id)).hexdigest() == entry.sha256
            if plan:
                assert session.registered() == {plan}
            killer.start()
            try:
                client = Client(server, session, token)
                plan = client.plan.digest
                while True:
                    data = rng.bytes(int(rng.integers(1, 300_000)))
                    kept[session.put_object(data).id] = data
                    client.scores(np.zeros((1, 32)))
            except (ServerError, FormatError):
                cut_off += 1
        killer.join()
        for path in (folder / "spool").iterdir():
            assert path.stat().st_mode & 0o077 == 0
        audit.verify(folder / AUDIT_FILE)
    return len(kept), cut_off


def test_sigkill_of_the_server_loses_nothing_acknowledged(bundle: Path, tmp_path: Path) -> None:
    acknowledged, cut_off = kill_at_random(bundle, tmp_path / "data", 4)
    assert cut_off == 4
    assert acknowledged > 0


@pytest.mark.slow
def test_sigkill_of_the_server_at_two_hundred_moments(bundle: Path, tmp_path: Path) -> None:
    acknowledged, cut_off = kill_at_random(bundle, tmp_path / "data", 200)
    print(f"{cut_off} kills, {acknowledged} objects acknowledged, none lost")
    assert cut_off == 200
