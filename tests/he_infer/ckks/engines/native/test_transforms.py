"""Transforms equal Python's integer arithmetic, and the self-test refuses wrong machine code."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.native.kernels.execution import INVERT, TRANSFORM
from he_infer.ckks.engines.native.kernels.ring import build_ring, internal_places, reversed_bits, smallest_root
from he_infer.ckks.engines.native.kernels.scratch import make_scratch
from he_infer.ckks.engines.native.self_test import check_kernels
from he_infer.ckks.parameters import Parameters
from he_infer.errors import EngineError, ParameterError


def is_prime(number: int) -> bool:
    """Test primality by Miller and Rabin, with bases that make the test exact below 3.3 * 10^24."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41):
        power = pow(base, odd, number)
        if power not in (1, number - 1) and all(
            (power := power * power % number) != number - 1 for _ in range(twos - 1)
        ):
            return False
    return True


def prime_below(bits: int, size: int) -> int:
    prime = (1 << bits) // (2 * size) * 2 * size + 1
    while prime >= 1 << bits or not is_prime(prime):
        prime -= 2 * size
    return prime


def reference(numbers: list[int], prime: int) -> list[int]:
    """Compute SEAL's transform in integers."""
    size = len(numbers)
    root = smallest_root(size, prime)
    roots = [pow(root, int(exponent), prime) for exponent in reversed_bits(size)]
    values = [number % prime for number in numbers]
    half, blocks = size, 1
    while blocks < size:
        half //= 2
        for block in range(blocks):
            for j in range(2 * block * half, 2 * block * half + half):
                u, v = values[j], values[j + half] * roots[blocks + block] % prime
                values[j], values[j + half] = (u + v) % prime, (u - v) % prime
        blocks *= 2
    return values


class Transformer:
    """Transform modulo a prime of any size, also of sizes that the planner never chooses."""

    def __init__(self, kernels: Kernels, size: int, bits: int) -> None:
        self.kernels, self.size, self.prime = kernels, size, prime_below(bits, size)
        self.ring, self.scratch = build_ring(size, (self.prime,)), make_scratch(size, 1)

    def run(self, operation: int, source: np.ndarray) -> np.ndarray:
        out, none = np.empty(self.size), np.zeros(1)
        code = np.array([[operation, 0, 0, 0, 1, 0, 0, 0]])
        terms, places = np.zeros((1, 3), dtype=np.int64), np.zeros((1, 1), dtype=np.int32)
        self.kernels.execute(
            code, terms, source, none, out, none, none, places, self.size, self.ring, self.scratch, True
        )
        return out


def extremes(size: int, prime: int, kind: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    half = prime // 2
    return (
        rng.integers(-half, half + 1, size),
        np.full(size, half),
        np.where(np.arange(size) % 2, half, -half),
        rng.choice([-half, half], size),
        rng.integers(-(2**52), 2**52, size),
        np.full(size, prime - 1),
    )[kind].astype(np.float64)


@settings(deadline=None, max_examples=20)
@given(size=st.sampled_from([1024, 2048]), bits=st.integers(20, 50), kind=st.integers(0, 5), seed=st.integers(0, 2**32))
def test_transform_equals_integer_arithmetic(kernels: Kernels, size: int, bits: int, kind: int, seed: int) -> None:
    transformer = Transformer(kernels, size, bits)
    numbers = extremes(size, transformer.prime, kind, seed)
    out = transformer.run(TRANSFORM, numbers)
    assert np.abs(out).max() <= transformer.prime // 2
    wanted = reference([int(number) for number in numbers], transformer.prime)
    assert [int(value) % transformer.prime for value in out[internal_places(size)]] == wanted


@settings(deadline=None, max_examples=30)
@given(
    size=st.sampled_from([1024, 2048, 4096, 8192, 16384, 32768]),
    bits=st.integers(21, 50),
    kind=st.integers(0, 3),
    seed=st.integers(0, 2**32),
)
def test_inverse_transform_restores_the_coefficients(
    kernels: Kernels, size: int, bits: int, kind: int, seed: int
) -> None:
    transformer = Transformer(kernels, size, max(bits, size.bit_length() + 6))
    numbers = extremes(size, transformer.prime, kind, seed)
    assert (transformer.run(INVERT, transformer.run(TRANSFORM, numbers)) == numbers).all()


def test_kernels_pass_their_self_test(kernels: Kernels) -> None:
    check_kernels(kernels)


@pytest.mark.parametrize("operation", [TRANSFORM, INVERT, None])
def test_kernels_that_compute_wrongly_fail_their_self_test(kernels: Kernels, operation: int | None) -> None:
    """A residue is off by one after a transform, its inverse, or any key switch."""

    def execute(code: np.ndarray, terms: Any, left: Any, right: Any, out: np.ndarray, *rest: Any) -> None:
        kernels.execute(code, terms, left, right, out, *rest)
        if code[0, 0] == operation or (operation is None and code[0, 0] not in (TRANSFORM, INVERT)):
            out[0] += 1.0

    with pytest.raises(EngineError, match="native engine"):
        check_kernels(replace(kernels, execute=execute))


def test_primes_of_more_than_50_bits_are_refused(kernels: Kernels) -> None:
    with pytest.raises(ParameterError, match="50 bits"):
        NativeEngine(Parameters(8192, (60, 40, 60)), kernels)
