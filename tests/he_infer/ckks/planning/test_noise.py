"""The error model predicts SEAL's errors, operation by operation."""

import pytest

from he_infer.ckks.parameters import Parameters
from he_infer.ckks.planning.noise import ErrorModel
from he_infer.ckks.planning.order import Digits
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
