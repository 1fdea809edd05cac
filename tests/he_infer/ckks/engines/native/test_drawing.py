"""Small random polynomials have their exact distributions, checked for every byte value."""

import math
from collections import Counter

import numpy as np

from he_infer.ckks.engines.native.kernels.drawing import draw_zeros
from he_infer.ckks.engines.native.kernels.entry_points import Kernels


def test_every_accepted_byte_gives_each_trit_equally_often(kernels: Kernels) -> None:
    """243 of 256 bytes are accepted; each of the three trits occurs 405 times, 81 times at each of the five places."""
    out = np.full(2000, np.nan)
    made = kernels.fill_ternary(np.arange(256, dtype=np.uint8), out, 0, 2000)
    assert made == 5 * 243
    trits = out[:made].reshape(243, 5)
    for place in trits.T:
        assert Counter(place.tolist()) == {-1.0: 81, 0.0: 81, 1.0: 81}
    assert len({tuple(row) for row in trits}) == 243
    assert np.isnan(out[made:]).all()


def test_rejected_bytes_are_drawn_again(kernels: Kernels) -> None:
    draws: list[int] = []

    def draw(count: int) -> np.ndarray:
        draws.append(count)
        return np.full(count, 255 if len(draws) < 3 else 121, dtype=np.uint8)

    samples = draw_zeros(1, 1024, kernels.fill_ternary, kernels.fill_errors, draw)[0]
    assert len(draws) == 3  # two that gave nothing and one that sufficed; the first one held the errors, too
    assert set(samples[:1024]) <= {-1.0, 0.0, 1.0}


def test_errors_are_differences_of_ones_among_21_bits(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, 6 * 5000, dtype=np.uint8)
    raw[:6], raw[6:12] = (0xFF, 0xFF, 0xFF, 0, 0, 0), (0, 0, 0xE0, 0xFF, 0xFF, 0x1F)
    out = np.empty(5000)
    kernels.fill_errors(raw, out, 0, 5000)
    triples = raw.reshape(5000, 2, 3).astype(int)
    words = (triples[..., 0] | triples[..., 1] << 8 | triples[..., 2] << 16) & 0x1FFFFF
    wanted = [bin(a).count("1") - bin(b).count("1") for a, b in words]
    assert out.tolist() == wanted
    assert (out[0], out[1]) == (21, -21)


def test_samples_have_deviations_of_their_distributions(kernels: Kernels) -> None:
    samples = draw_zeros(3, 8192, kernels.fill_ternary, kernels.fill_errors)
    assert (samples[0] != samples[1]).mean() > 0.5
    ternary, errors = samples[2, :8192], samples[2, 8192:]
    # Six deviations of the estimate: fails once in hundreds of millions of runs.
    assert abs(ternary.mean()) < 6 * math.sqrt(2 / 3 / 8192)
    assert abs((ternary**2).mean() - 2 / 3) < 6 * math.sqrt(2 / 9 / 8192)
    assert abs(errors.mean()) < 6 * math.sqrt(10.5 / 16384)
    assert abs((errors**2).mean() - 10.5) < 6 * 10.5 * math.sqrt(2 / 16384)
