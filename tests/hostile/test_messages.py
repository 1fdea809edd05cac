"""Hostile messages to a running server: each is answered as documented, and honest requests are answered meanwhile.

`make hostile` runs the same campaign with twenty thousand messages.
"""

from pathlib import Path

from tests.he_infer.server.support.kit import write_bundle
from tests.hostile.campaign import over_http


def test_hostile_messages_are_answered_as_documented(tmp_path: Path) -> None:
    outcome = over_http(write_bundle(tmp_path / "toy.hebundle"), tmp_path / "data", 400, seed=5)
    print(outcome.to_json())
    outcome.check()
    assert sum(outcome.sent.values()) == 400
    assert len(outcome.sent) > 20
