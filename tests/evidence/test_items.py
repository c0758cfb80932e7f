"""The variance of a mean over items, against values by hand and against the sums that define it."""

import numpy as np
import pytest
from scipy.stats import t as student

from nasbench.evidence.items import item_freedom, long_run_variance


def test_independent_items_have_their_plain_variance():
    assert long_run_variance(np.array([[1.0, 3.0], [0.0, 4.0]])).tolist() == [2.0, 8.0]
    assert item_freedom(200) == 199


def test_the_bartlett_estimate_is_the_weighted_sum_of_autocovariances():
    """Of 36 windows at a horizon of 3 the lag is 12: the weight of lag j is 1 − j/12."""
    values = np.random.default_rng(0).normal(size=36).cumsum()
    gaps = values - values.mean()
    of_lag = [float(gaps[lag:] @ gaps[: 36 - lag]) / 36 for lag in range(12)]
    expected = of_lag[0] + 2 * sum((1 - lag / 12) * of_lag[lag] for lag in range(1, 12))
    assert long_run_variance(values, 3) == pytest.approx(expected)
    assert long_run_variance(np.stack([values, 2 * values]), 3) == pytest.approx([expected, 4 * expected])


def test_a_short_series_is_cut_into_blocks_of_one_horizon():
    """Means 1, 3 and 5 of blocks of 2 have variance 4, and a mean of two items twice that variance."""
    assert long_run_variance(np.array([0.0, 2.0, 2.0, 4.0, 4.0, 6.0, 9.0]), 2) == pytest.approx(8.0)
    assert item_freedom(7, 2) == 2


def test_one_block_shows_no_variance():
    assert np.isnan(long_run_variance(np.arange(3.0), 2))
    assert np.isnan(item_freedom(3, 2))
    assert np.isnan(long_run_variance(np.array([1.0])))


@pytest.mark.parametrize(("count", "block"), [(144, 24), (1440, 24), (2880, 192)])
def test_the_freedom_gives_the_fixed_b_quantile(count, block):
    b = max(4 * block, count // 5) / count
    quantile = 1.96 + 2.9694 * b + 0.416 * b**2 - 0.5324 * b**3
    assert student.ppf(0.975, item_freedom(count, block)) == pytest.approx(quantile)
