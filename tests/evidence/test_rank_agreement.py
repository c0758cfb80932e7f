"""Agreement of two rankings, by hand and beside SciPy."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from nasbench.evidence.rank_agreement import rank_agreement

DRAW = np.random.default_rng(0)


def test_by_hand():
    """Of six pairs, five are ordered alike: (5 - 1) / 6."""
    assert rank_agreement(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])).tau == pytest.approx(4 / 6)


def test_equal_and_reversed():
    scores = DRAW.normal(size=9)
    same, reverse = rank_agreement(scores, np.exp(scores)), rank_agreement(scores, -scores)
    assert (same.tau, same.low, same.high) == (1, 1, 1)
    assert (reverse.tau, reverse.low, reverse.high) == (-1, -1, -1)


@pytest.mark.parametrize(("plans", "low"), [(4, 0.0), (5, 1.0)])
def test_few_plans_that_agree_by_chance_decide_nothing(plans, low):
    """Unrelated orders of four plans are equal or reversed in 2 of 24 cases, of five plans in 2 of 120."""
    order = np.arange(float(plans))
    same, reverse = rank_agreement(order, order), rank_agreement(order, -order)
    assert (same.low, same.tau, same.high) == (low, 1.0, 1.0)
    assert (reverse.low, reverse.tau, reverse.high) == (-1.0, -1.0, -low)


@pytest.mark.parametrize("digits", [1, 8])
def test_it_is_that_of_scipy_with_and_without_ties(digits):
    a = DRAW.normal(size=30).round(digits)
    b = (a + DRAW.normal(size=30)).round(digits)
    found = rank_agreement(a, b)
    assert found.tau == pytest.approx(kendalltau(a, b).statistic)
    assert found.low < found.tau < found.high


def test_the_interval_is_that_of_scipy_on_the_same_resamples():
    a = DRAW.normal(size=8)
    b = a + DRAW.normal(size=8)
    rows = np.random.default_rng(3).integers(0, 8, (50, 8))
    values = [kendalltau(a[row], b[row]).statistic for row in rows]
    found = rank_agreement(a, b, resamples=50, seed=3)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_undefined():
    few, flat = rank_agreement(np.arange(3.0), np.arange(3.0)), rank_agreement(np.arange(5.0), np.ones(5))
    assert few.plans == 3
    assert np.isnan([few.tau, few.low, few.high, flat.tau, flat.low, flat.high]).all()
