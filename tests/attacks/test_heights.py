"""Two features of very different size in one query: an exact score gives two weights, a noisy score gives one."""

from dataclasses import replace

import numpy as np

from experiments.leaks.extraction_answer import choose_heights, list_pairs, split_pairs
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import unpack
from he_infer.ckks.planning.leakage import queries_to_tell
from he_infer.ckks.planning.plan import AnswerForm
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from tests.attacks.crypto_kit import Target
from tests.he_infer.ckks.kit import make_head

WIDTHS = (16, 2)


def steal(target: Target) -> tuple[float, float]:
    """Return relative errors of the larger and the smaller feature's weights, after half as many queries as weights."""
    weight = target.head.linear[0].weight
    high, low = choose_heights(target.plan, float(np.abs(weight).max()))
    answers = []
    for query in list_pairs(WIDTHS[0], high, low):
        _, parts = target.ask(query[None])
        answers.append(unpack(target.plan, target.secret.open_answer(target.plan, parts), 1)[0])
    assert len(answers) == WIDTHS[0] // 2 + 1
    found = split_pairs(target.plan, np.stack(answers), high, low).weight
    errors = (np.linalg.norm(found[:, start::2] - weight[:, start::2]) for start in (0, 1))
    return tuple(float(error / np.linalg.norm(weight)) for error in errors)  # type: ignore[return-value]  # a pair


def test_scores_with_all_their_bits_give_two_weights_a_query() -> None:
    head = make_head(WIDTHS)
    plan = make_plan(head, policy="open", precision=1e-6)
    # A small scale leaves modulus above the scores, which a client that ignores the input bound can use.
    bare = replace(plan, output_scale=2.0**8, answer=AnswerForm(56, 0))
    upper, lower = steal(Target(head, bare, Evaluator(bare, head), SecretKey.generate(plan.parameters)))
    assert upper < 0.02
    assert lower < 0.2


def test_scores_as_wide_as_their_precision_give_one_weight_a_query() -> None:
    head = make_head(WIDTHS)
    plan = make_plan(head)
    upper, lower = steal(Target(head, plan, Evaluator(plan, head), SecretKey.generate(plan.parameters)))
    assert upper < 0.02
    assert lower > 1.0


def test_bound_counts_bits_and_not_queries() -> None:
    plan = make_plan(make_head(WIDTHS))
    weights = 2 * (WIDTHS[0] + 1)
    assert queries_to_tell(plan, weights, 16) > queries_to_tell(plan, weights, 8) > 1
