"""Answers are a function of the scores and of fresh randomness, for every plan shape and batch.

Each number of an answer is computed here from the scores alone, with no other knowledge of the head, and compared with
the decrypted number: the difference is noise within the precision, and no partial sum shows.
"""

import math

import numpy as np
import pytest

from he_infer.ckks.layouts.last_layer import Tile
from he_infer.ckks.layouts.ring import to_coefficients
from he_infer.ckks.planning.leakage import bits_per_number, bits_per_query, hides, numbers_per_answer
from he_infer.ckks.planning.message_sizes import count_part_bytes
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.errors import ParameterError
from tests.attacks.crypto_kit import target
from tests.he_infer.ckks.kit import features, make_head

CASES = {
    "linear": ((40, 3), 1),
    "linear, several ciphertexts both ways": ((512, 10), 1),
    "linear, 5 images": ((40, 3), 5),
    "linear, 64 images": ((100, 7), 64),
    "mlp, even classes": ((20, 6, 4), 1),
    "mlp, odd classes": ((20, 6, 3), 1),
    "mlp, one class": ((20, 6, 1), 1),
    "mlp, 3 images in places of 4": ((20, 6, 3), 3),
    "mlp, 16 images": ((20, 6, 2), 16),
    "two hidden layers": ((20, 6, 5, 3), 1),
}


def numbers_from_scores(plan: Plan, scores: np.ndarray) -> list[np.ndarray]:
    """Compute the numbers of each answer from scores (batch, classes) alone."""
    output, expected = plan.output, []
    for answer in range(plan.targets):
        part = scores[:, answer * output.rows :][:, : output.rows]
        if isinstance(output, Tile):
            expected.append(part.reshape(-1))
        elif output.images == 1:
            expected.append(part[0] * np.where(np.arange(part.shape[1]) % 2, math.sqrt(2), 1.0))
        else:
            pairs = np.zeros((part.shape[1] + part.shape[1] % 2, output.images))
            pairs[: part.shape[1], : len(part)] = part.T
            expected.append(to_coefficients(pairs[::2] + 1j * pairs[1::2]).reshape(-1))
    return expected


@pytest.mark.parametrize("case", CASES)
def test_every_number_that_leaves_follows_from_the_scores(case: str) -> None:
    widths, batch = CASES[case]
    made = target(widths, batch)
    plan, x = made.plan, features(batch, widths[0], seed=5)
    _, parts = made.ask(x)
    opened = made.secret.open_answer(plan, parts)
    expected = numbers_from_scores(plan, made.head.evaluate(x))
    assert [len(part) for part in parts] == [count_part_bytes(plan, each) for each in range(plan.targets)]
    for answer, wanted in zip(opened, expected, strict=True):
        assert answer.scores.shape == wanted.shape
        assert np.abs(answer.scores - wanted).max() <= math.sqrt(2) * plan.precision
        assert np.abs(answer.checks).max(initial=0.0) <= plan.precision


@pytest.mark.parametrize("case", ["linear", "mlp, odd classes", "mlp, 16 images"])
def test_numbers_of_one_request_differ_by_fresh_noise_as_wide_as_stated(case: str) -> None:
    widths, batch = CASES[case]
    made = target(widths, batch)
    x = features(batch, widths[0])
    sent, _ = made.ask(x)
    keys = made.evaluator.load_keys(made.honest)
    answers = [
        np.concatenate(
            [each.scores for each in made.secret.open_answer(made.plan, made.evaluator.evaluate(sent, keys))]
        )
        for _ in range(24)
    ]
    spread = float(np.std(np.stack(answers), axis=0, ddof=1).mean())
    images = 1 if len(widths) == 2 or batch == 1 else made.plan.output.images
    width = made.plan.precision if images == 1 else made.plan.precision * math.sqrt(12 / images) / 10
    assert 0.8 < spread / (width / math.sqrt(12)) < 1.6


def test_number_reveals_no_more_bits_than_its_range_has_steps_of_the_precision() -> None:
    plan = target((40, 3)).plan
    scale = 2.0 ** plan.parameters.modulus_bits[0] / (plan.input_scale * plan.output_scale)
    assert bits_per_number(plan) == pytest.approx(math.log2(scale / plan.precision), abs=0.01)
    assert bits_per_query(plan) == sum(numbers_per_answer(plan)) * bits_per_number(plan)
    assert bits_per_query(plan, with_noise=False) > 1.5 * bits_per_query(plan)


def test_plan_whose_answers_could_reveal_the_secret_of_the_server_is_not_made() -> None:
    head = make_head((32, 2))
    with pytest.raises(ParameterError, match="keys of its own making"):
        make_plan(head, batch=4096)
    assert make_plan(head, batch=4096, policy="open").batch == 4096
    for batch in (1, 64, 256):
        assert hides(make_plan(head, batch=batch))
