"""Hostile messages to a running server: each is answered as documented, and honest requests are answered meanwhile."""

from pathlib import Path

import httpx2
import numpy as np
import pytest

from he_infer.bundle import HeadBundle
from he_infer.client.local_server import LocalServer
from he_infer.client.session import Session
from he_infer.server import tokens
from he_infer.server.metadata import Metadata
from he_infer.server.service import DATABASE_FILE
from tests.hostile.campaign import Mutations, run
from tests.server.kit import Client, write_bundle


def campaign(tmp_path: Path, count: int, seed: int) -> None:
    bundle = write_bundle(tmp_path / "toy.hebundle")
    features = np.random.default_rng(seed).uniform(-1, 1, (1, 32))
    expected = HeadBundle.load(bundle).head.evaluate(features)
    with LocalServer([bundle], tmp_path / "data", options=["--workers", "2"]) as server:
        token = tokens.new_token()
        metadata = Metadata.sqlite(server.data_dir / DATABASE_FILE)
        metadata.add_token("other", token, frozenset({tokens.Scope.CLASSIFY}))
        metadata.close()
        with Session(server.url, server.token) as session, Session(server.url, token.text) as other_session:
            client, other = Client(server, session, server.token), Client(server, other_session, token.text)
            mutations = Mutations(client, other, features, seed)

            def ask_honestly() -> bool:
                return bool(np.abs(other.scores(features) - expected).max() < 1e-3)

            outcome = run(client, mutations, count, ask_honestly)
            assert set(outcome.sent) == set(mutations.kinds)
            assert outcome.undocumented == []
            assert outcome.honest > 0
            assert outcome.honest_wrong == 0
            # Only what holds a right MAC can be accepted, and then it is one's own nonsense that one gets back.
            assert set(outcome.accepted) <= {"resealed flip", "resealed noise", "foreign ciphertext", "wrong object"}
            assert httpx2.get(f"{server.url}/readyz").status_code == 200
            print(outcome)


def test_hostile_messages_are_answered_as_documented(tmp_path: Path) -> None:
    campaign(tmp_path, 300, seed=5)


@pytest.mark.slow
def test_twenty_thousand_hostile_messages(tmp_path: Path) -> None:
    campaign(tmp_path, 20_000, seed=11)
