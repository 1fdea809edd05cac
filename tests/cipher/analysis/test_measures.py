"""Each measure gives its known value on cases worked by hand, and its expected value on random images."""

import math

import numpy as np
import pytest

from cipher.analysis import chosen, correlation, differential, entropy, histogram, quality, sensitivity
from cipher.analysis.pixels import Image

RNG = np.random.default_rng(20111)


def _random(shape: tuple[int, ...], dtype: str = "u1") -> Image:
    kind = np.dtype(dtype)
    return RNG.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)


# Correlation


def test_correlation_of_a_ramp_is_one_and_of_a_checkerboard_minus_one() -> None:
    ramp = np.add.outer(np.arange(40), np.arange(40)).astype(np.uint8)
    board = (np.indices((40, 40)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert [c.r for c in correlation.adjacent(ramp)] == pytest.approx([1.0, 1.0, 1.0])
    assert [c.r for c in correlation.adjacent(board)] == pytest.approx([-1.0, -1.0, 1.0])


def test_correlation_of_a_constant_image_is_the_worst() -> None:
    assert [c.r for c in correlation.adjacent(np.full((40, 40), 7, dtype=np.uint8))] == [1.0, 1.0, 1.0]


def test_correlation_uses_all_pairs() -> None:
    found = correlation.adjacent(_random((40, 50)))
    assert [c.pairs for c in found] == [40 * 49, 39 * 50, 39 * 49]
    assert found[0].bound == pytest.approx(3.2905 / math.sqrt(40 * 49), rel=1e-4)


def test_correlation_deviates_of_random_images_are_standard_normal() -> None:
    deviates = np.array([[c.deviate for c in correlation.adjacent(_random((32, 32)))] for _ in range(800)])
    assert np.abs(deviates.mean(axis=0)).max() < 4 / math.sqrt(800)
    assert deviates.std(axis=0) == pytest.approx(np.ones(3), abs=0.1)


def test_published_table_2_is_as_printed() -> None:
    methods = dict(correlation.PUBLISHED)
    assert len(methods) == 4
    assert methods["the paper's own method"] == (-0.007, 0.005, -0.041)


# NPCR and UACI


@pytest.mark.parametrize(
    ("side", "alpha", "npcr", "low", "high"),
    [
        (256, 0.05, 99.5693, 33.2824, 33.6447),
        (256, 0.01, 99.5527, 33.2255, 33.7016),
        (256, 0.001, 99.5341, 33.1594, 33.7677),
        (512, 0.05, 99.5893, 33.3730, 33.5541),
        (512, 0.01, 99.5810, 33.3445, 33.5826),
        (512, 0.001, 99.5717, 33.3115, 33.6156),
    ],
)
def test_critical_values_are_as_wu_noonan_and_agaian_print_them(
    side: int, alpha: float, npcr: float, low: float, high: float
) -> None:
    assert 100 * differential.npcr_one_sided(side**2, 255, alpha) == pytest.approx(npcr, abs=6e-5)
    interval = differential.uaci_interval(side**2, 255, alpha)
    assert (100 * interval.low, 100 * interval.high) == pytest.approx((low, high), abs=6e-5)


def test_eight_bits_give_the_published_expectations() -> None:
    assert 100 * differential.npcr_expected(255) == pytest.approx(99.6094, abs=1e-4)
    assert 100 * differential.uaci_expected(255) == pytest.approx(33.4635, abs=1e-4)


@pytest.mark.parametrize(("pixels", "maximum"), [(1024, 255), (16384, 255), (16384, 65535), (4_000_000, 65535)])
def test_npcr_interval_has_its_stated_size(pixels: int, maximum: int) -> None:
    interval = differential.npcr_interval(pixels, maximum, 0.05)
    least, most = round((1 - interval.high) * pixels), round((1 - interval.low) * pixels)
    mean = pixels / (maximum + 1)
    counts = np.arange(least, most + 1)
    log = counts * math.log(mean) - mean - np.array([math.lgamma(k + 1) for k in counts])
    # Poisson stands in for the binomial here: the two differ by a relative 1/(F+1) or so.
    assert 1 - float(np.exp(log).sum()) == pytest.approx(interval.size, abs=5e-3)
    assert interval.size <= 0.05


def test_npcr_of_sixteen_bits_needs_the_exact_distribution() -> None:
    # A quarter of a pixel is expected to stay. One or two are nothing unusual, three are.
    interval = differential.npcr_interval(16384, 65535, 0.05)
    assert interval.holds(1.0)
    assert interval.holds(1 - 2 / 16384)
    assert not interval.holds(1 - 3 / 16384)


def test_random_images_have_the_expected_npcr_and_uaci() -> None:
    pairs = [(_random((64, 64)), _random((64, 64))) for _ in range(400)]
    changed = sum(differential.changed(a, b) for a, b in pairs)
    deviates = np.array([differential.uaci_deviate(differential.uaci(a, b), 4096, 255) for a, b in pairs])
    assert differential.npcr_p_value(changed, 400 * 4096, 255) > 1e-3
    assert abs(deviates.mean()) < 0.2
    assert deviates.std() == pytest.approx(1.0, abs=0.12)


def test_npcr_and_uaci_equal_values_worked_by_hand() -> None:
    black = np.zeros((32, 32), dtype=np.uint8)
    white = np.full_like(black, 255)
    assert (differential.npcr(black, black), differential.uaci(black, black)) == (0.0, 0.0)
    assert (differential.npcr(black, white), differential.uaci(black, white)) == (1.0, 1.0)
    assert differential.uaci(np.full((32, 32), -1, dtype=np.int16), np.zeros((32, 32), dtype=np.int16)) == 1.0


def test_npcr_of_one_hundred_per_cent_is_too_good() -> None:
    assert differential.npcr_p_value(16384, 16384, 255) < 1e-20


# Histogram and entropy


def test_chi_square_equals_the_value_worked_by_hand() -> None:
    assert histogram.statistic(np.full(256, 10)) == 0.0
    lone = np.zeros(256, dtype=np.int64)
    lone[3] = 256
    assert histogram.statistic(lone) == pytest.approx(255.0 * 256)


def test_entropy_equals_the_value_worked_by_hand() -> None:
    assert entropy.shannon(np.full(256, 4)) == pytest.approx(8.0)
    two = np.zeros(256, dtype=np.int64)
    two[:2] = 50
    assert entropy.shannon(two) == pytest.approx(1.0)
    assert entropy.shannon(np.bincount([5] * 9, minlength=256)) == 0.0


def test_expected_entropy_is_close_to_the_formula_of_miller() -> None:
    assert entropy.expected(16384) == pytest.approx(8 - 0.7213 * 255 / 16384, abs=5e-5)


def test_entropy_and_chi_square_of_random_bytes_have_their_distributions() -> None:
    counts = [histogram.counts(_random((32, 32))) for _ in range(3000)]
    values = np.array([histogram.statistic(c) for c in counts])
    assert values.mean() == pytest.approx(255, abs=4 * math.sqrt(510 / 3000))
    assert values.std() == pytest.approx(math.sqrt(510), rel=0.06)
    entropies = [entropy.shannon(c) for c in counts]
    assert entropy.p_value(entropies, 1024) > 1e-3
    low, high = entropy.interval(1024)
    assert np.mean([low < value < high for value in entropies]) == pytest.approx(0.998, abs=0.003)


def test_the_moments_of_entropy_are_exact_where_all_outcomes_can_be_listed() -> None:
    # Two bytes are equal with probability 1/256: then the entropy is 0, and 1 otherwise.
    assert entropy.expected(2) == pytest.approx(255 / 256)


def test_exact_and_asymptotic_moments_agree_where_they_change() -> None:
    few, many = entropy.expected(65536), entropy.expected(65537)
    assert (8 - few) / (8 - many) == pytest.approx(1.0, abs=1e-4)
    widths = [high - low for low, high in (entropy.interval(65536), entropy.interval(65537))]
    assert widths[0] / widths[1] == pytest.approx(1.0, abs=1e-3)


def test_a_flat_histogram_is_flagged_as_too_flat() -> None:
    assert histogram.p_value(histogram.statistic(np.full(256, 64))) < 1e-9


# Sensitivity


def test_one_bit_is_flipped_and_counted() -> None:
    image = _random((32, 33), "i2")
    changed = sensitivity.flip_pixel_bit(image, 100, 15)
    assert sensitivity.changed_bits(image, changed) == 1
    assert changed.reshape(-1)[100] == np.int16(int(image.reshape(-1)[100]) ^ -0x8000)
    assert sensitivity.flip_bit(b"\x00\x01", 8) == b"\x00\x00"
    assert sensitivity.bits(image) == 32 * 33 * 16


# MSE, PSNR, SSIM


def test_mse_and_psnr_equal_values_worked_by_hand() -> None:
    black = np.zeros((32, 32), dtype=np.uint8)
    grey = np.full_like(black, 5)
    assert quality.mse(black, grey) == 25.0
    assert quality.psnr(25.0, 255) == pytest.approx(34.1514, abs=1e-4)
    assert quality.psnr(0.0, 255) == math.inf


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_mse_against_a_random_image_has_its_stated_moments(dtype: str) -> None:
    image = _random((32, 32), dtype) // 3
    mean, deviation = quality.random_mse(image)
    deviates = np.array([(quality.mse(image, _random((32, 32), dtype)) - mean) / deviation for _ in range(1500)])
    assert abs(deviates.mean()) < 4 / math.sqrt(1500)
    assert deviates.std() == pytest.approx(1.0, abs=0.08)


def test_ssim_is_the_mean_of_its_definition_over_all_windows() -> None:
    x, y = _random((34, 33)), _random((34, 33)) // 2
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2

    def mean(values: np.ndarray) -> np.ndarray:
        return np.einsum("ijkl,kl->ij", np.lib.stride_tricks.sliding_window_view(values, (11, 11)), window)

    a, b = x.astype(np.float64), y.astype(np.float64)
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    direct = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    assert quality.ssim(x, y) == pytest.approx(float(direct.mean()), abs=1e-9)
    assert quality.ssim(x, x) == pytest.approx(1.0)


# Chosen images


def test_residuals_vanish_for_affine_ciphers_only() -> None:
    a, b = _random((32, 32), "u2"), _random((32, 32), "u2")
    mask = _random((32, 32), "u2")

    def masked(image: Image) -> Image:
        return np.asarray((image ^ mask)[::-1])

    def shifted(image: Image) -> Image:
        return np.asarray((image * 3 + mask)[::-1])

    assert not chosen.xor_residual(masked, a, b).any()
    assert not chosen.sum_residual(shifted, a, b).any()
    assert np.count_nonzero(chosen.xor_residual(shifted, a, b)) > 900
    assert np.count_nonzero(chosen.sum_residual(masked, a, b)) > 900


def test_chosen_images_keep_the_type() -> None:
    image = np.zeros((32, 32), dtype=np.int16)
    assert chosen.white(image).dtype == np.int16
    assert int(chosen.white(image)[0, 0]) == -1
    assert chosen.add(chosen.white(image), chosen.white(image)).dtype == np.int16
    assert int(chosen.xor(chosen.white(image), image)[0, 0]) == -1
