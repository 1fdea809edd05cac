"""What repetitions of one question tell of its scores, by trial.

    python -m tests.attacks.repeated [ANSWERS]

The same ciphertext is evaluated so often, under a `hidden` plan; the mean of the answers is compared with the scores.
"""

import sys

import numpy as np

from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.verify.scores import open_scores
from tests.he_infer.ckks.kit import make_head


def main() -> None:
    """Print the largest error of one answer's scores and of the mean of all answers."""
    answers = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    rng = np.random.default_rng(1)
    head = make_head((32, 8, 3))
    plan = make_plan(head, input_bound=3.0)
    secret = SecretKey.generate(plan.parameters)
    evaluator = Evaluator(plan, head)
    keys = evaluator.load_keys(secret.evaluation_keys(plan))
    features = rng.uniform(-1, 1, (1, plan.width))
    sent = secret.encrypt(pack(plan, features), plan.input_scale)
    opened = np.stack([open_scores(secret, plan, evaluator.evaluate(sent, keys), 1) for _ in range(answers)])
    off = opened - head.evaluate(features)
    one, mean = np.median(np.abs(off).max(axis=(1, 2))), np.abs(off.mean(axis=0)).max()
    print(
        f"precision {plan.precision:g}; one answer (median) is off by {one:.1e}, the mean of {answers} by {mean:.1e}: "
        f"{np.log2(one / mean):.1f} bits more"
    )


if __name__ == "__main__":
    main()
