"""P-values agree with scipy's where it has them, and reject at the level they claim."""

import numpy as np
import pytest
from scipy import stats

from cipher.analysis import probability


@pytest.mark.parametrize("successes", [3, 10, 17])
def test_binomial_agrees_with_scipy_for_a_symmetric_distribution(successes: int) -> None:
    assert probability.binomial(successes, 20, 0.5) == pytest.approx(
        float(stats.binomtest(successes, 20, 0.5).pvalue), abs=1e-12
    )


def test_binomial_of_a_rare_event_never_rejects_more_often_than_its_level() -> None:
    trials, share = 300, 0.002
    counts = np.arange(trials + 1)
    p_values = np.array([probability.binomial(int(k), trials, share) for k in counts])
    chance = stats.binom.pmf(counts, trials, share)
    for level in (0.05, 0.01, 1e-4):
        assert float(chance[p_values < level].sum()) <= level


def test_chi_square_is_two_sided() -> None:
    assert probability.chi_square(float(stats.chi2.median(255)), 255) == pytest.approx(1.0)
    assert probability.chi_square(100.0, 255) < 1e-12
    assert probability.chi_square(500.0, 255) < 1e-12


def test_mean_and_spread_of_deviates_give_their_p_values() -> None:
    assert probability.mean([0.3] * 100) == pytest.approx(probability.normal(3.0))
    assert probability.spread([0.0] * 50) < 1e-12
    assert probability.spread([2.0] * 50) < 1e-12
    assert probability.spread([1.0, -1.0] * 25) == pytest.approx(1.0, abs=0.1)
