"""Masks are uniform below the prime, come out of the encoder as they went in, and leave the scores alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments import encrypted
from experiments.leaks.extraction_ring import invert_transform
from he_infer.ckks import mask
from he_infer.ckks.engines.seal import context, primes, sealapi
from he_infer.ckks.layouts.ring import to_slots
from he_infer.ckks.parameters import Parameters
from he_infer.head.layers import Head, Linear


def numbers(drawn: mask.Mask) -> list[int]:
    return [int(upper) * mask.ADDITIONS + int(lower) for upper, lower in zip(drawn.upper, drawn.lower, strict=True)]


@given(st.integers(1 << 19, (1 << 60) - 1))
def test_every_number_lies_below_the_prime_in_parts_that_can_be_encoded(prime: int) -> None:
    drawn = mask.draw(prime, 64)
    assert all(0 <= number < prime for number in numbers(drawn))
    assert (drawn.upper <= prime / mask.ADDITIONS).all()
    assert (drawn.lower <= prime / mask.ADDITIONS).all()
    assert (drawn.lower < 2.0**mask.LOW_BITS).all()
    assert (drawn.upper == np.floor(drawn.upper)).all()


@pytest.mark.parametrize("prime", [(1 << 60) - 93 * (1 << 14) + 1, (1 << 36) - 5, 700_001])
def test_numbers_are_uniform_from_the_highest_bits_to_the_lowest(prime: int) -> None:
    drawn = numbers(mask.draw(prime, 50_000))
    top = np.bincount([number * 64 // prime for number in drawn], minlength=64)
    low = np.bincount([number % 64 for number in drawn], minlength=64)
    for counts in (top, low):
        # One run in a million fails.
        assert stats.chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize("size", [2048, 8192])
def test_the_lower_part_is_encoded_exactly_and_the_upper_within_the_stated_error(size: int) -> None:
    parameters = Parameters(8192, (60, 60)) if size == 8192 else Parameters(2048, (53,))
    prime = primes(parameters)[0]
    encoder, made = sealapi.CKKSEncoder(context(parameters)), context(parameters)
    drawn = mask.draw(prime, size)

    def error(part: np.ndarray) -> float:
        plain = sealapi.Plaintext()
        encoder.encode(to_slots(part / 2.0**20).tolist(), made.first_parms_id(), 2.0**20, plain)
        data = plain.dyn_array()
        found = invert_transform([data.at(index) for index in range(size)], prime)
        offsets = [(value - int(true)) % prime for value, true in zip(found, part, strict=True)]
        return float(max(min(offset, prime - offset) for offset in offsets))

    assert error(drawn.lower) == 0
    assert mask.ADDITIONS * error(drawn.upper) <= 2.0 ** (prime.bit_length() - 49)


def test_scores_are_right_under_the_mask() -> None:
    random = np.random.default_rng(2)
    head = Head((Linear(random.normal(0, 0.2, (3, 40)), random.normal(size=3)),))
    plan = encrypted.plan_head(head, policy="hidden", input_bound=2.0)
    features = random.uniform(-2, 2, (2, 40))
    found = encrypted.evaluate_plan(head, plan, features)
    assert np.abs(found.scores - head.evaluate(features)).max() <= plan.precision
