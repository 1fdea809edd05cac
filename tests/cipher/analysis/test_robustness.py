"""Each kind of damage changes its stated share of pixels; a sealed image that was damaged is refused."""

import math

import numpy as np
import pytest

from cipher.analysis import robustness
from cipher.analysis.line import Verdict
from cipher.analysis.sealed import refusals
from cipher.analysis.suite import Seeds

IMAGE = np.random.default_rng(8).integers(-1000, 1000, (64, 80), np.int16)


@pytest.mark.parametrize("case", robustness.CASES, ids=lambda case: case.name)
def test_damage_changes_a_copy(case: robustness.Case) -> None:
    before = IMAGE.copy()
    damaged = case.damage(IMAGE, np.random.default_rng(1))
    assert np.array_equal(IMAGE, before)
    assert damaged.dtype == IMAGE.dtype
    assert not np.array_equal(damaged, IMAGE)


def test_one_pixel_damage_changes_exactly_one_pixel() -> None:
    rng = np.random.default_rng(2)
    assert all(np.count_nonzero(robustness.one_pixel(IMAGE, rng) != IMAGE) == 1 for _ in range(50))


def test_occlusion_covers_its_share() -> None:
    hidden = robustness.occlusion(1 / 16)(IMAGE, np.random.default_rng(1))
    assert np.array_equal(np.unique(hidden[24:40, 30:50]), [0])
    assert np.array_equal(hidden[:24], IMAGE[:24])
    assert np.array_equal(hidden[:, 50:], IMAGE[:, 50:])


def test_occlusion_of_colour_covers_every_plane() -> None:
    image = np.full((40, 40, 3), 9, dtype=np.uint8)
    hidden = robustness.occlusion(1 / 4)(image, np.random.default_rng(1))
    assert np.count_nonzero(hidden == 0) == 20 * 20 * 3


def test_salt_and_pepper_hits_its_share_with_extremes() -> None:
    noisy = robustness.salt_and_pepper(0.05)(IMAGE, np.random.default_rng(3))
    hit = noisy != IMAGE
    assert np.count_nonzero(hit) == pytest.approx(0.05 * IMAGE.size, rel=0.02)
    assert set(np.unique(noisy[hit]).tolist()) == {-1, 0}


def test_outcome_counts_damaged_and_wrong_pixels() -> None:
    damaged = IMAGE.copy()
    damaged[0, :3] ^= 1
    restored = IMAGE.copy()
    restored[5] = 0
    found = robustness.outcome(IMAGE, IMAGE, damaged, restored)
    assert found.damaged_pixels == 3
    assert found.wrong_pixels == np.count_nonzero(IMAGE[5])
    assert found.intact_share == pytest.approx(1 - found.wrong_pixels / IMAGE.size)
    assert robustness.outcome(IMAGE, IMAGE, IMAGE, IMAGE).psnr == math.inf


def test_every_damaged_sealed_image_is_refused() -> None:
    line = refusals(IMAGE, 24, Seeds(1))
    assert line.verdict is Verdict.PASS
    assert line.statistic == 1.0
