"""The error model predicts SEAL's errors, operation by operation."""

import numpy as np
import pytest

from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.noise import ErrorModel
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.search import make_plan
from he_infer.errors import ParameterError
from he_infer.head.layers import Head, Linear, Polynomial
from tests.he_infer.ckks.kit import SQUARE
from tests.he_infer.ckks.planning.noise_table import NoiseRow, measure_noise


@pytest.fixture(scope="module")
def rows() -> dict[str, NoiseRow]:
    return {row.operation: row for row in measure_noise(repeats=2)}


OPERATIONS = (
    "fresh encryption",
    "encoded vector, real",
    "encoded vector, complex",
    "rescaling",
    "key switch of a rotation, three primes",
    "key switch of a rotation, one prime",
    "relinearisation, three primes",
    "encryption of zero, one prime",
)


def test_table_has_every_operation_of_the_model(rows: dict[str, NoiseRow]) -> None:
    assert tuple(rows) == OPERATIONS


@pytest.mark.parametrize("operation", OPERATIONS)
def test_measured_deviation_is_the_predicted_one(rows: dict[str, NoiseRow], operation: str) -> None:
    # A key's error is drawn once and shared by all slots of a run, so that a key switch's error varies by a tenth.
    assert 0.8 < rows[operation].ratio < 1.3


def test_centred_digits_halve_a_key_switch_error_and_add_none_in_the_first_slot() -> None:
    parameters = Parameters(8192, (50, 50, 50))
    positive, centred = (ErrorModel(parameters, digits) for digits in (Digits.POSITIVE, Digits.CENTRED))
    assert 0.4 < centred.key_switch(1) / positive.key_switch(1) < 0.6
    assert centred.first_slot_of_key_switch(1, 1.0) == 0.0 < positive.first_slot_of_key_switch(1, 1.0)


def test_no_scale_makes_up_for_the_double_precision_of_a_large_bias() -> None:
    """Scores that vary by some 1e-18: beside a bias of 2e-7 their error is up to 2^-42 of it, 4.5e-20."""
    rng = np.random.default_rng(0)

    def linear(inputs: int, outputs: int, size: float, bias: float) -> Linear:
        return Linear(size * rng.normal(size=(outputs, inputs)) / np.sqrt(inputs), np.full(outputs, bias))

    hidden = (
        linear(20, 9, 1, 0.5),
        Polynomial(SQUARE, (1.0,) * 9),
        linear(9, 1, 1e-6, 1e-6),
        Polynomial(SQUARE, (1e-6,)),
    )
    last = linear(1, 2, 1e-6, 2e-10)
    assert make_plan(Head((*hidden, last)), precision=4e-20, input_bound=4.0).error <= 4e-20
    with pytest.raises(ParameterError, match="cannot be reached"):
        make_plan(Head((*hidden, Linear(last.weight, 1000 * last.bias))), precision=4e-20, input_bound=4.0)
