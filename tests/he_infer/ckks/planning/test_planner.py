"""The planner's refusals, and its predictions of keys, bytes and memory."""

import json

import numpy as np
import pytest

from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack
from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.circuit import build_circuit
from he_infer.ckks.planning.cost import estimate_cost
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import HeadError, ParameterError, UnsupportedVersion
from he_infer.head.layers import Head, Linear, Polynomial
from tests.he_infer.ckks.kit import features, make_head


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": 1e-13}, "cannot be reached"),
        ({"parameters": Parameters(8192, (60, 60))}, "too short"),
        ({"parameters": Parameters(4096, (36, 35, 35))}, "cannot be reached|no room"),
        ({"policy": "secret"}, "no policy"),
        ({"batch": 100_000}, "100000 images"),
    ],
)
def test_unsatisfiable_plan_options_are_refused_with_reason(options: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make_plan(make_head((64, 16, 4)), **options)


def test_a_head_that_ignores_its_input_is_refused() -> None:
    with pytest.raises(HeadError, match="do not depend on the features"):
        make_plan(Head((Linear(np.zeros((3, 20)), np.ones(3)),)))


def test_dead_hidden_values_become_constants() -> None:
    first, square, last = make_head((32, 8, 3)).layers
    assert isinstance(first, Linear)
    assert isinstance(last, Linear)
    assert isinstance(square, Polynomial)
    alive = np.array(first.weight)
    alive[[1, 4]] = 0
    head = Head((Linear(alive, first.bias), square, last))
    form = build_circuit(head)
    assert form.linear[0].outputs == 6
    x = features(5, 32)
    assert np.allclose(form.evaluate(x), head.evaluate(x))


@pytest.mark.parametrize("coefficients", [(1, 2, 3), (1, -2, 3, 0.5), (1, 2, -3, 0.5, 0.25), (0, 0, 0, 0, 2)])
def test_a_circuit_gives_the_scores_of_its_head(coefficients: tuple[float, ...]) -> None:
    head = make_head((20, 9, 4), coefficients)
    x = features(6, 20)
    assert np.allclose(build_circuit(head).evaluate(x), head.evaluate(x))


@pytest.mark.parametrize(("widths", "batch"), [((512, 10), 1), ((512, 64, 10), 1), ((60, 16, 3), 8)])
def test_bytes_keys_and_memory_are_as_predicted(widths: tuple[int, ...], batch: int) -> None:
    head = make_head(widths)
    plan = make_plan(head, batch=batch)
    spent = estimate_cost(plan, build_circuit(head))
    secret, evaluator = SecretKey.generate(plan.parameters), Evaluator(plan, head)
    parts = secret.evaluation_keys(plan)
    sent = secret.encrypt(pack(plan, features(batch, widths[0])), plan.input_scale)
    answer = evaluator.evaluate(sent, evaluator.load_keys(parts))
    for predicted, measured in (
        (spent.bytes_up, sum(map(len, sent))),
        (spent.bytes_down, sum(map(len, answer))),
        (spent.key_bytes, sum(map(len, parts.values()))),
        (spent.weight_bytes, evaluator.weight_bytes),
    ):
        assert predicted / 1.2 < measured < predicted * 1.2


def test_a_linear_head_takes_no_rotation_and_an_open_one_no_key() -> None:
    head = make_head((512, 10))
    assert make_plan(head).galois_elements == ()
    assert not make_plan(head).relinearise
    assert not make_plan(head, policy="open").needs_keys


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"version": 1}, UnsupportedVersion),
        ({"ring_size": 512}, ParameterError),
        ({"modulus_bits": [60, 60, 60, 60]}, ParameterError),
        ({"stages": []}, ParameterError),
        ({"classes": 11}, ParameterError),
        ({"batch": 2}, ParameterError),
        ({"input_scale": 0}, ParameterError),
        ({"answer": {"kind": "tile"}}, ParameterError),
        ({"policy": "none"}, ParameterError),
        ({"width": "512"}, ParameterError),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(change: dict, kind: type[Exception]) -> None:
    described = json.loads(make_plan(make_head((64, 16, 4))).to_json())
    with pytest.raises(kind):
        Plan.from_json(json.dumps({**described, **change}))
    with pytest.raises(ParameterError):
        Plan.from_json("[]")


def test_a_batch_too_large_for_hidden_names_the_largest_that_has_a_plan() -> None:
    head = make_head((64, 2))
    with pytest.raises(ParameterError, match="at most 2048 images a request"):
        make_plan(head, batch=8192)
    assert make_plan(head, batch=2048).batch == 2048
