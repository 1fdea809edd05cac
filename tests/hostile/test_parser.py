"""Hostile bytes straight at the worker's parser: each is refused, and the worker lives. `make hostile` does 10,000."""

from pathlib import Path

from tests.he_infer.server.support.kit import write_bundle
from tests.hostile.parser import attack


def test_the_parser_answers_each_with_a_refusal_and_lives(tmp_path: Path) -> None:
    outcome = attack(write_bundle(tmp_path / "toy.hebundle"), 250, seed=21)
    print(outcome.to_json())
    outcome.check()
    assert {"ciphertext: bomb", "keys: bomb", "ciphertext: boast", "keys: boast"} <= set(outcome.sent)
