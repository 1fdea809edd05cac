"""Hostile bytes straight at the worker's parser, without HTTP, MAC or header in front of it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from he_infer.refusals import Code, Refused
from tests.server.bench import Bench
from tests.server.kit import write_bundle

FITTING = {
    "evaluate": {Code.BAD_CIPHERTEXT, Code.SECRET_KEY, Code.WORKER_LIMIT},
    "check_keys": {Code.BAD_KEYS, Code.SECRET_KEY, Code.WORKER_LIMIT},
}


def mutate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One of: flips (half of them near the start, where the headers are), a cut, a splice, noise, growth."""
    at = int(rng.integers(0, len(data)))
    match int(rng.integers(5)):
        case 0:
            changed = bytearray(data)
            limit = len(data) if rng.integers(2) else min(len(data), 120)
            for _ in range(int(rng.integers(1, 9))):
                changed[int(rng.integers(0, limit))] ^= int(rng.integers(1, 256))
            return bytes(changed)
        case 1:
            return data[:at]
        case 2:
            return data[:at] + other[at:]
        case 3:
            return data[: min(at, 64)] + rng.bytes(int(rng.integers(0, 5000)))
        case _:
            return data + rng.bytes(int(rng.integers(1, 5000)))


def attack(tmp_path: Path, count: int, seed: int) -> None:
    bench = Bench(write_bundle(tmp_path / "toy.hebundle"))
    rng = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter()
    odd: list[str] = []
    try:
        assert bench.right()
        for number in range(count):
            kind, names = ("evaluate" if rng.integers(4) else "check_keys"), bench.names
            if kind == "evaluate":
                parts = [mutate(part, bench.keys["galois"], rng) for part in bench.parts]
            else:
                name = str(rng.choice(names))
                keys = {**bench.keys, name: mutate(bench.keys[name], bench.parts[0], rng)}
                parts = [keys[name] for name in names]
            # Mutated keys go under an id of their own: what a client registers harms itself alone.
            key_id = "k" if kind == "evaluate" else f"hostile {number}"
            task = {"do": kind, "plan": bench.plan.digest, "key_id": key_id, "names": names}
            try:
                bench.pool.submit("tenant", task, parts, bench.supply).result(timeout=120)
                outcomes["accepted"] += 1
            except Refused as refused:
                outcomes[refused.code.value] += 1
                if refused.code not in FITTING[kind]:
                    odd.append(f"{kind}: {refused.code.value} {refused}")
            if number % 50 == 0:
                assert bench.right()
        assert bench.right()
        assert odd == []
        assert bench.pool.deaths == 0
        print(f"{count} messages: {dict(outcomes)}; no worker died")
    finally:
        bench.pool.drain(10)


def test_the_parser_answers_each_with_a_refusal_and_lives(tmp_path: Path) -> None:
    attack(tmp_path, 150, seed=21)


@pytest.mark.slow
def test_the_parser_under_ten_thousand(tmp_path: Path) -> None:
    attack(tmp_path, 10_000, seed=22)
