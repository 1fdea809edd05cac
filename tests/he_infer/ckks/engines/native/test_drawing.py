"""Small random polynomials have their exact distributions, checked for every byte value."""

import math
from collections import Counter

import numpy as np

from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.kernels.drawing import count_zero_bytes
from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.parameters import Parameters

SIZE = 1152
TERNARY_BYTES = 256
HALF = (1 << 21) - 1


def fill(kernels: Kernels, ternary: np.ndarray, errors: np.ndarray) -> tuple[bool, np.ndarray]:
    raw, out = np.concatenate([ternary, errors]).astype(np.uint8), np.full(3 * SIZE, np.nan)
    assert len(raw) == count_zero_bytes(SIZE)
    return kernels.fill_zeros(raw, 1, SIZE, out), out


def trits_of(values: np.ndarray) -> list[list[int]]:
    return [[value // 3**place % 3 - 1 for place in range(5)] for value in values.tolist() if value < 243]


def test_every_accepted_byte_gives_each_trit_equally_often(kernels: Kernels) -> None:
    every = np.random.default_rng(0).permutation(TERNARY_BYTES)
    wanted = trits_of(every)
    assert len({tuple(trits) for trits in wanted}) == 243
    for place in zip(*wanted, strict=True):
        assert Counter(place) == {-1: 81, 0: 81, 1: 81}
    enough, out = fill(kernels, every, np.zeros(12 * SIZE))
    assert enough
    assert out[:SIZE].tolist() == [trit for trits in wanted for trit in trits][:SIZE]


def test_too_many_rejected_bytes_are_reported(kernels: Kernels) -> None:
    ternary = np.full(TERNARY_BYTES, 121)
    ternary[: TERNARY_BYTES - SIZE // 5] = 255  # one byte too few is left
    assert not fill(kernels, ternary, np.zeros(12 * SIZE))[0]


def test_zeros_are_drawn_again_until_bytes_suffice(kernels: Kernels) -> None:
    draws: list[int] = []

    def draw(count: int) -> np.ndarray:
        draws.append(count)
        return np.full(count, 255 if len(draws) < 3 else 121, dtype=np.uint8)

    engine = NativeEngine(Parameters(2048, (41,)), kernels)
    samples = engine.draw_zeros(2, draw)
    assert draws == 3 * [2 * count_zero_bytes(2048)]
    assert set(samples[:2048]) <= {-1.0, 0.0, 1.0}


def test_errors_are_differences_of_ones_among_21_bits(kernels: Kernels) -> None:
    words = np.random.default_rng(1).integers(0, 1 << 64, (2 * SIZE // 32, 3, 8), dtype=np.uint64)
    words[0, :, 0], words[0, :, 1] = HALF, HALF << 21
    wanted = []
    for group in words.tolist():
        halves = [(word & HALF, word >> 21 & HALF) for piece in group for word in piece]
        halves += [(first >> 42 & HALF, second >> 42 & HALF) for first, second in zip(*group[:2], strict=True)]
        wanted += [first.bit_count() - second.bit_count() for first, second in halves]
    _, out = fill(kernels, np.zeros(TERNARY_BYTES), np.frombuffer(words.tobytes(), dtype=np.uint8))
    assert out[SIZE:].tolist() == wanted
    assert (out[SIZE], out[SIZE + 1]) == (21, -21)


def test_samples_have_deviations_of_their_distributions(kernels: Kernels) -> None:
    samples = NativeEngine(Parameters(8192, (41,)), kernels).draw_zeros(3).reshape(3, -1)
    assert (samples[0] != samples[1]).mean() > 0.5
    ternary, errors = samples[2, :8192], samples[2, 8192:]
    # Six deviations of the estimate: fails once in hundreds of millions of runs.
    assert abs(ternary.mean()) < 6 * math.sqrt(2 / 3 / 8192)
    assert abs((ternary**2).mean() - 2 / 3) < 6 * math.sqrt(2 / 9 / 8192)
    assert abs(errors.mean()) < 6 * math.sqrt(10.5 / 16384)
    assert abs((errors**2).mean() - 10.5) < 6 * 10.5 * math.sqrt(2 / 16384)
