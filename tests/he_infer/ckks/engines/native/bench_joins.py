"""Processor time of requests on the native engine, with rotations joined and without, in turns in one process.

    python -m tests.he_infer.ckks.engines.native.bench_joins [REQUESTS]

Convolution tails of `experiments.cost.tail_sizes` and 512 to 64, squared, to 10, one image and 64; random weights,
`hidden`, plans for centred digits.
"""

import statistics
import sys
import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np

from experiments.cost.tail_sizes import BOUND, SIZES, make_random_tail
from experiments.cost.work import count_work
from he_infer.ckks.engines.choice import EngineChoice
from he_infer.ckks.engines.native import program
from he_infer.ckks.engines.native.code_cache import default_folder
from he_infer.ckks.engines.native.instructions import Instruction, join_folds, join_sums, share_digits, shorten
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack
from he_infer.ckks.planning.circuit import build_circuit
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.head.layers import Head, Linear, Polynomial

Shortened = Callable[..., list[Instruction]]


def only_folds(instructions: list[Instruction], kept: set[int], number: int, *, centred: bool) -> list[Instruction]:
    return join_folds(instructions, kept)


def only_shared(instructions: list[Instruction], kept: set[int], number: int, *, centred: bool) -> list[Instruction]:
    return share_digits(join_folds(instructions, kept), number)


def only_sums(instructions: list[Instruction], kept: set[int], number: int, *, centred: bool) -> list[Instruction]:
    return join_folds(join_sums(instructions, kept, number), kept)


VARIANTS: dict[str, Shortened] = {
    "single": only_folds,
    "shared digits": only_shared,
    "sums": only_sums,
    "both": shorten,
}


def measure(head: Head, batch: int, requests: int) -> tuple[int, dict[str, float]]:
    """Return the plan's transforms, and the median milliseconds of a request by variant."""
    plan = make_plan(head, batch=batch, input_bound=BOUND, precision=1e-3, digits=Digits.CENTRED)
    secret = SecretKey.generate(plan.parameters)
    parts = secret.evaluation_keys(plan)
    features = np.clip(np.random.default_rng(1).normal(size=(batch, head.width)), -BOUND, BOUND)
    sent = secret.encrypt(pack(plan, features), plan.input_scale)
    evaluators = {}
    for name, variant in VARIANTS.items():
        with patch.object(program, "shorten", variant):
            evaluators[name] = Evaluator(plan, head, EngineChoice(default_folder()))
    keys = {name: evaluator.load_keys(parts) for name, evaluator in evaluators.items()}
    taken: dict[str, list[float]] = {name: [] for name in evaluators}
    for _ in range(requests + 1):
        for name, evaluator in evaluators.items():
            started = time.process_time()
            evaluator.evaluate(sent, keys[name])
            taken[name].append(1e3 * (time.process_time() - started))
    work = count_work(plan, build_circuit(head))
    return work.transforms, {name: statistics.median(times[1:]) for name, times in taken.items()}


def main() -> None:
    requests, rng = int(sys.argv[1]) if len(sys.argv) > 1 else 25, np.random.default_rng(0)
    layers = Linear(rng.normal(size=(64, 512)) / 23, np.zeros(64)), Linear(rng.normal(size=(10, 64)) / 8, np.zeros(10))
    mlp = Head((layers[0], Polynomial((0.0, 0.0, 1.0)), layers[1]))
    jobs = [
        (f"tail {maps} to {outputs}", make_random_tail(maps, outputs, stride, rng), 1)
        for maps, outputs, stride in SIZES
    ]
    for title, head, batch in [*jobs, ("mlp", mlp, 1), ("mlp, 64 images", mlp, 64)]:
        transforms, found = measure(head, batch, requests)
        times = ", ".join(f"{name} {value:.2f} ms ({value / found['single']:.2f})" for name, value in found.items())
        print(f"{title}: {transforms} transforms; {times}", flush=True)


if __name__ == "__main__":
    main()
