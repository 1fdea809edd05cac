"""Plans of heads with small and large weights can be computed, and a plan that cannot is refused beforehand."""

from dataclasses import replace

import numpy as np
import pytest

from he_infer.ckks.encoded_head import EncodedHead
from he_infer.ckks.engines.seal import SealEngine
from he_infer.ckks.planning.circuit import build_circuit
from he_infer.ckks.planning.order import Digits, Moment
from he_infer.ckks.planning.search import make_plan
from he_infer.ckks.trial import try_plan
from he_infer.errors import ParameterError, UsageError
from he_infer.head.layers import Head, Layer, Linear, Polynomial
from tests.he_infer.ckks.kit import features, make_head, on_clear, on_seal


def scaled(head: Head, factors: tuple[float, ...]) -> Head:
    """Multiply each linear layer's weights and biases."""
    given = iter(factors)
    layers = []
    for layer in head.layers:
        if isinstance(layer, Linear):
            factor = next(given)
            layers.append(Linear(layer.weight * factor, layer.bias * factor))
        else:
            assert isinstance(layer, Polynomial)
            layers.append(layer)
    return Head(tuple(layers))


CASES = {
    "linear, small": ((64, 2), (1e-6,)),
    "linear, tiny": ((64, 2), (1e-12,)),
    "hidden weights small": ((40, 8, 3), (1e-5, 1.0)),
    "last weights small": ((40, 8, 3), (1.0, 1e-7)),
    "both small": ((40, 8, 3), (1e-4, 1e-4)),
    "hidden weights large": ((40, 8, 3), (1e5, 1e-10)),
}


@pytest.mark.parametrize("case", CASES)
def test_head_of_extreme_weights_runs_and_keeps_its_labels(case: str) -> None:
    widths, factors = CASES[case]
    head = scaled(make_head(widths), factors)
    plan = make_plan(head)
    try_plan(plan, head)
    x = features(4, widths[0])
    clear = head.evaluate(x)
    assert np.abs(on_seal(plan, head, x) - clear).max() <= plan.precision
    # The precision is finer for smaller scores, so that noise does not decide a label.
    assert plan.precision < 0.1 * clear.std(axis=0).max()


def test_rescaled_circuit_is_its_head_to_the_last_bits() -> None:
    head = scaled(make_head((20, 7, 5, 3)), (1e-5, 1e6, 1e-3))
    x = features(5, 20)
    np.testing.assert_allclose(build_circuit(head).evaluate(x), head.evaluate(x), rtol=1e-12)


def test_plan_whose_weights_vanish_is_refused_by_the_trial() -> None:
    # Weights of a twentieth, at a scale of one, are rounded to zeros.
    head = make_head((400, 3))
    plan = replace(make_plan(head), output_scale=1.0)
    with pytest.raises(ParameterError, match="a trial evaluation failed"):
        try_plan(plan, head)


def test_plan_that_runs_passes_the_trial() -> None:
    for widths, batch in (((30, 4), 3), ((30, 6, 4), 1)):
        head = make_head(widths)
        try_plan(make_plan(head, batch=batch), head)


def test_request_beyond_the_limit_is_not_planned() -> None:
    head = make_head((64, 16, 4))
    with pytest.raises(ParameterError, match=r"takes \d+ bytes or more; at most 20000 are allowed"):
        make_plan(head, max_request=20_000)
    assert make_plan(head, max_request=1 << 20) == make_plan(head)


def test_head_of_three_hidden_layers_whose_values_were_measured_is_planned_to_a_hundredth() -> None:
    head, values = make_head((512, 64, 32, 16, 10)), features(400, 512)
    layers: list[Layer] = []
    for layer in head.layers:
        if isinstance(layer, Polynomial):
            layers.append(Polynomial(layer.coefficients, tuple(np.sqrt((values**2).mean(axis=0)))))
            values = layer(values)
        else:
            assert isinstance(layer, Linear)
            layers.append(layer)
            values = values @ layer.weight.T + layer.bias
    measured = Head(tuple(layers))
    plan = make_plan(measured, precision=1e-2)
    x = features(40, 512)
    assert np.abs(on_clear(plan, measured, x) - measured.evaluate(x)).max() <= plan.error <= 1e-2


def test_plan_for_centred_digits_folds_late_and_is_refused_by_an_engine_without_them() -> None:
    head = make_head((64, 16, 4))
    plan = make_plan(head, digits=Digits.CENTRED)
    assert plan.order.folds is Moment.AFTER
    x = features(20, 64)
    assert np.abs(on_clear(plan, head, x) - head.evaluate(x)).max() <= plan.error
    with pytest.raises(UsageError, match="centred digits"):
        EncodedHead(plan, head, SealEngine(plan.parameters))
