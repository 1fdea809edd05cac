"""A head that begins with a convolution, under encryption: within the plan's error, with no product for zeros."""

from functools import cache

import numpy as np
import pytest

from experiments import encrypted
from experiments.cost.tail_sizes import make_random_tail
from he_infer.ckks.planning.circuit import build_circuit
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.simulate import simulate
from he_infer.head.convolution import Convolution
from he_infer.head.layers import Head, Linear, Polynomial

SQUARE = Polynomial((0.0, 0.0, 1.0))
CUBIC = Polynomial((0.1, 0.5, 0.2, 0.05))


def tail(
    channels: int, side: int, outputs: int, stride: int = 1, padding: int = 1, activation: Polynomial = SQUARE
) -> Head:
    random = np.random.default_rng(channels + side + outputs)
    weight = random.normal(0, 1 / np.sqrt(9 * channels), (outputs, channels, 3, 3))
    first = Convolution(weight, random.normal(0, 0.1, outputs), (channels, side, side), stride, padding)
    last = random.normal(0, 1 / np.sqrt(first.outputs), (3, first.outputs))
    return Head((first, activation, Linear(last, random.normal(0, 0.1, 3))))


LARGE = make_random_tail((16, 8, 8), 16, 1, np.random.default_rng(5))


@cache
def planned(head: Head) -> Plan:
    return encrypted.plan_head(head, policy="hidden", input_bound=4.0)


@pytest.mark.parametrize(
    "head",
    [
        tail(2, 8, 3),
        tail(4, 8, 8, stride=2),
        tail(2, 7, 2, padding=0),
        tail(1, 8, 2, activation=CUBIC),
        LARGE,
    ],
    ids=["same", "stride", "valid, 7 x 7", "cubic", "8 x 8 x 16"],
)
def test_encrypted_scores_stay_within_plan_error(head: Head) -> None:
    features = np.random.default_rng(6).normal(0, 1, (2, head.width)).clip(-4, 4)
    plan = planned(head)
    clear = head.evaluate(features)
    assert np.abs(encrypted.evaluate_plan(head, plan, features).scores - clear).max() <= plan.error <= plan.precision
    assert np.abs(simulate(plan, head, features, seed=1) - clear).max() <= plan.error
    np.testing.assert_allclose(simulate(plan, head, features, seed=None), clear, atol=1e-6)


def test_the_planner_leaves_out_the_diagonals_that_are_zero() -> None:
    """144 diagonals of 1024 are not zero; each product holds as many copies of them as a ciphertext does."""
    head = LARGE
    plan = planned(head)
    (stage,) = plan.stages
    layout = stage.layout
    weight = build_circuit(head).linear[0].weight
    products = len(layout.occupied(weight))
    assert products * layout.copies * layout.parts == 144
    # A dense layer of this size takes about 2 sqrt(256).
    assert plan.key_switches <= 14
