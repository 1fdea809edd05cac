"""Chance that an answer under a wrong key, or random bytes, pass the client's checks, by formula and by trial.

    python -m tests.attacks.chance [TRIALS]

Prints a line for each plan: the chance of the zero checks, of the scores' range (one image) and of one canary question;
and how many of TRIALS honest answers, opened under another key, passed the checks and the range.
"""

import sys

import numpy as np

from he_infer.ckks.answer_check import chance_to_hold, count_checks, largest_number
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.verify.canaries import TOLERANCE
from he_infer.client.verify.scores import chance_to_pass, count_outside, open_scores
from he_infer.errors import NotAuthentic
from he_infer.head.layers import Head, Linear, Polynomial
from he_infer.head.score_bounds import bound_scores


def heads() -> dict[str, Head]:
    """Heads of the usual widths with random weights of the usual sizes."""
    rng = np.random.default_rng(1)
    made = {}
    for classes in (2, 10):
        made[f"512 -> {classes}"] = Head((Linear(rng.normal(0, 0.05, (classes, 512)), rng.normal(0, 0.1, classes)),))
        first = Linear(rng.normal(0, 0.05, (64, 512)), rng.normal(0, 0.1, 64))
        last = Linear(rng.normal(0, 0.1, (classes, 64)), rng.normal(0, 0.1, classes))
        made[f"512 -> 64 -> x^2 -> {classes}"] = Head((first, Polynomial((0.0, 0.0, 1.0)), last))
    return made


def main() -> None:
    """Print the table."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    rng = np.random.default_rng(2)
    for name, head in heads().items():
        plan = make_plan(head, input_bound=4.0)
        bounds = bound_scores(head, 4.0)
        reach = largest_number(plan, [1 << bits for bits in plan.parameters.modulus_bits])
        passed = chance_to_pass(bounds, reach, plan.precision)
        canary = min(1.0, TOLERANCE * plan.precision / reach) ** head.classes
        right, wrong = SecretKey.generate(plan.parameters), SecretKey.generate(plan.parameters)
        evaluator = Evaluator(plan, head)
        keys = evaluator.load_keys(right.evaluation_keys(plan)) if plan.needs_keys else None
        believed = 0
        for _ in range(trials):
            sent = right.encrypt(pack(plan, rng.uniform(-1, 1, (1, 512))), plan.input_scale)
            try:
                scores = open_scores(wrong, plan, evaluator.evaluate(sent, keys), 1)
            except NotAuthentic:
                continue
            believed += not count_outside(plan, scores, bounds)
        print(
            f"{name}: N {plan.parameters.ring_size}, {count_checks(plan)} checks {chance_to_hold(plan):.1e}, range "
            f"{passed:.1e}, one canary {canary:.1e}; believed {believed} of {trials}"
        )


if __name__ == "__main__":
    main()
