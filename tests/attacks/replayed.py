"""Chance that the answer to one full request is believed for another request of the same key, by trial.

    python -m tests.attacks.replayed [REQUESTS]

REQUESTS full requests to 64 images are evaluated; each answer is then judged for every other request, with a row kept
for a test question and without.
"""

import sys
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.client.blocks import Block, BlockFiller, Extracted
from he_infer.client.images.reader import ReadImage
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.verify.canaries import wrong_rows
from he_infer.client.verify.scores import count_outside, open_scores
from he_infer.head.score_bounds import bound_scores
from tests.attacks.chance import heads

BATCH = 64
QUESTIONS = 8
_NAME = "512 -> 64 -> x^2 -> 10"


@dataclass(frozen=True)
class Asked:
    """Full requests, and the decrypted scores of their answers."""

    plan: Plan
    bounds: NDArray[np.float64]
    known: NDArray[np.float64]
    """(q, classes) answers to the test questions."""
    blocks: list[Block]
    orders: list[NDArray[np.int64]]
    answers: list[NDArray[np.float64]]

    def believes(self, asked: int, answered: int) -> bool:
        """Tell whether a request accepts the answer to this request or to another one."""
        scores = np.empty_like(self.answers[answered])
        scores[self.orders[asked]] = self.answers[answered]
        owners = self.blocks[asked].owners
        rows = [row for row, owner in enumerate(owners) if owner < 0]
        expected = self.known[[-1 - owners[row] for row in rows]]
        wrong = len(rows) and wrong_rows(self.plan, scores[rows], expected)
        return not wrong and not count_outside(self.plan, scores, self.bounds)


def main() -> None:
    """Print how many of the answers to other requests were believed."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rng = np.random.default_rng(3)
    head = heads()[_NAME]
    plan = make_plan(head, input_bound=4.0, batch=BATCH)
    questions = np.concatenate([np.zeros((1, plan.width)), rng.normal(0, 0.25, (QUESTIONS - 1, plan.width))])
    secret = SecretKey.generate(plan.parameters)
    evaluator = Evaluator(plan, head)
    keys = evaluator.load_keys(secret.evaluation_keys(plan))
    for kept in (True, False):
        filler = BlockFiller(plan, questions, None if kept else 0, rng)
        count = requests * (BATCH - kept)
        images = (Extracted(ReadImage(Path("any.png")), rng.uniform(-1, 1, plan.width)) for _ in range(count))
        asked = Asked(plan, bound_scores(head, 4.0), head.evaluate(questions), list(filler.fill(images)), [], [])
        for block in asked.blocks:
            order = rng.permutation(len(block.rows))
            sent = secret.encrypt(pack(plan, np.stack([block.rows[row] for row in order])), plan.input_scale)
            asked.orders.append(order)
            asked.answers.append(open_scores(secret, plan, evaluator.evaluate(sent, keys), BATCH))
        own = sum(asked.believes(number, number) for number in range(requests))
        pairs = list(permutations(range(requests), 2))
        believed = sum(asked.believes(*pair) for pair in pairs)
        print(
            f"{_NAME}, {BATCH} images, {'a row kept' if kept else 'no row kept'}: {own} of {requests} own answers "
            f"believed, {believed} of {len(pairs)} answers to other requests; by formula "
            f"{1 / (BATCH * (QUESTIONS - 1)) if kept else 1:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
