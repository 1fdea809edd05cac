"""Entropy of bytes, and its expectation for random bytes, as the demo's page shows them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from he_infer.demo.entropy import compute_entropy, compute_expected_entropy


@pytest.mark.parametrize(("data", "bits"), [(b"", 0.0), (b"aaaa", 0.0), (b"ab", 1.0), (bytes(range(256)), 8.0)])
def test_entropy_of_known_bytes_is_exact(data: bytes, bits: float) -> None:
    assert compute_entropy(data) == pytest.approx(bits, abs=1e-12)


@given(st.binary(min_size=1, max_size=600))
def test_entropy_lies_between_zero_and_the_possible_maximum(data: bytes) -> None:
    assert 0.0 <= compute_entropy(data) <= min(8.0, math.log2(len(data))) + 1e-9


@pytest.mark.parametrize("length", [1, 2, 10, 300, 5_000, 99_999, 100_001])
def test_expectation_matches_random_bytes(length: int) -> None:
    generator = np.random.default_rng(7)
    repeats = max(4, min(400, 400_000 // length))
    seen = [compute_entropy(generator.bytes(length)) for _ in range(repeats)]
    # The floor is for the shortest lengths, where a repeated byte is rarer than the number of draws.
    error = 4.0 * float(np.std(seen)) / math.sqrt(repeats) + (0.01 if length < 10 else 1e-6)
    assert compute_expected_entropy(length) == pytest.approx(float(np.mean(seen)), abs=error)
