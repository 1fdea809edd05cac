"""Hostile bytes straight at the worker's parser, without HTTP, MAC or header in front of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from he_infer.ckks.engines.seal import context
from he_infer.wire.refusals import Code, Refused
from tests.he_infer.server.support.bench import Bench
from tests.he_infer.server.support.processes import peak_megabytes
from tests.hostile import forgeries
from tests.hostile.messages import ciphertext_of, flipped, other_parameters
from tests.hostile.outcome import Outcome

KEY_CACHE = 256 << 20
FITTING = {
    "evaluate": {Code.BAD_CIPHERTEXT, Code.SECRET_KEY},
    "load_keys": {Code.BAD_KEYS, Code.SECRET_KEY},
}


@dataclass
class Parsed(Outcome):
    """Counts of objects handed to the parser."""

    grown_megabytes: int = 0
    """Rise of the worker's peak memory above its peak before the first hostile byte."""

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "grown_megabytes": self.grown_megabytes}

    def check(self) -> None:
        super().check()
        # The largest bomb holds 64 GiB; what a worker takes on for it is a few buffers, and beside them the cache of
        # evaluation keys, which flipped keys that SEAL accepts may fill.
        assert self.grown_megabytes < (KEY_CACHE >> 20) + 200


class _Forger:
    def __init__(self, bench: Bench, rng: np.random.Generator) -> None:
        self._rng = rng
        parameters = bench.plan.parameters
        self._fresh_id = list(context(parameters).first_context_data().parms_id())
        self._key_id = list(context(parameters).key_context_data().parms_id())
        self._strangers = [ciphertext_of(other) for other in other_parameters(parameters)]

    def mutate(self, kind: str, data: bytes, other: bytes) -> tuple[str, bytes]:
        """Mutate by flips (half of them near the start, among the headers), a cut, a splice, noise, growth, lies."""
        rng = self._rng
        at = int(rng.integers(0, len(data)))
        match int(rng.integers(8)):
            case 0:
                return "flipped", flipped(data, rng, most=8)
            case 1:
                return "cut", data[:at]
            case 2:
                return "spliced", data[:at] + other[at:]
            case 3:
                return "noise", data[: min(at, 64)] + rng.bytes(int(rng.integers(0, 5000)))
            case 4:
                return "lengthened", data + rng.bytes(int(rng.integers(1, 5000)))
            case 5:
                return "wrong parameters", self._strangers[int(rng.integers(len(self._strangers)))]
            case 6:
                boast = forgeries.boastful_ciphertext if kind == "evaluate" else forgeries.boastful_keys
                about = self._fresh_id if kind == "evaluate" else self._key_id
                return "boast", forgeries.disguised(boast(about, rng), rng)
            case _:
                return "bomb", forgeries.bomb((1, 8, 64)[int(rng.integers(3))] << 30)


def attack(bundle: Path, count: int, seed: int, progress: Callable[[int], None] | None = None) -> Parsed:
    """Hand `count` hostile objects to a pool of one worker; every fiftieth time ask an honest question."""
    bench = Bench(bundle, key_cache=KEY_CACHE)
    outcome = Parsed()
    rng = np.random.default_rng(seed)
    try:
        forger = _Forger(bench, rng)
        assert bench.right()
        (worker,) = bench.pool.pids
        began, before = time.monotonic(), peak_megabytes(worker)
        for number in range(count):
            kind, names = ("evaluate" if rng.integers(4) else "load_keys"), bench.names
            if kind == "evaluate":
                how, part = forger.mutate(kind, bench.parts[0], bench.keys["galois"])
                parts, supply = [part], bench.supply
            else:
                name = names[int(rng.integers(len(names)))]
                how, part = forger.mutate(kind, bench.keys[name], bench.parts[0])
                # An honest question under hostile keys: the worker asks for them, and gets these.
                keys = {**bench.keys, name: part}
                parts, supply = bench.parts, partial(list, [keys[each] for each in names])
            label = f"{'ciphertext' if kind == 'evaluate' else 'keys'}: {how}"
            outcome.sent[label] += 1
            # Mutated keys go under an id of their own: what a client registers harms itself alone.
            key_id = "k" if kind == "evaluate" else f"hostile {number}"
            task = {"do": "evaluate", "plan": bench.plan.digest, "key_id": key_id, "names": names}
            try:
                bench.pool.run("tenant", task, parts, supply)
                outcome.accepted[label] += 1
            except Refused as refused:
                outcome.refused[refused.code.value] += 1
                if refused.code not in FITTING[kind]:
                    outcome.undocumented.append(f"{label}: {refused.code.value} {refused}")
            if number % 50 == 0:
                outcome.honest += 1
                outcome.honest_wrong += not bench.right()
            if progress:
                progress(1)
        outcome.seconds = time.monotonic() - began
        outcome.worker_deaths, outcome.workers_overdue = bench.pool.deaths, bench.pool.overdue
        outcome.peak_megabytes = peak_megabytes(worker)
        outcome.grown_megabytes = outcome.peak_megabytes - before
    finally:
        bench.pool.drain(10)
    return outcome
