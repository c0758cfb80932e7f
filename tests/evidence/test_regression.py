"""Least squares with its limits, against values worked out by hand and by simulation."""

import numpy as np
import pytest

from nasbench.evidence.holm import holm
from nasbench.evidence.regression import Fit, explained


def test_a_difference_of_two_means_is_students_test():
    """Groups (1, 3) and (5, 9): means 2 and 7, pooled variance (2 + 8) / 2, error √(5·(1/2 + 1/2)), t(2) = 4.3027."""
    fit = Fit(np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([1.0, 3.0, 5.0, 9.0]))
    found = fit.contrast(np.array([1.0]))
    assert found.value == pytest.approx(5.0)
    assert (found.low, found.high) == pytest.approx((5 - 4.302653 * np.sqrt(5), 5 + 4.302653 * np.sqrt(5)))
    assert found.p == pytest.approx(1 - np.sqrt(5 / 7))
    assert fit.freedom == 2


def test_what_cannot_be_told_is_not():
    """Two columns that are the same: neither has an effect of its own, their sum has."""
    x = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    fit = Fit(x, np.array([1.0, 3.0, 5.0, 9.0]))
    assert fit.contrast(np.array([1.0, 0.0])) is None
    assert fit.contrast(np.array([0.5, 0.5])).value == pytest.approx(2.5)
    assert Fit(np.ones((4, 1)), np.arange(4.0)).contrast(np.array([1.0])) is None  # like the constant
    assert Fit(np.eye(3)[:, :2], np.arange(3.0)).contrast(np.array([1.0, 0.0])) is None  # nothing left to judge by


def test_the_share_explained_by_hand():
    """Of a sum of squares of 35 around the mean, 25 lie between the groups: adjusted 1 - (10/35)·(3/2)."""
    fit = Fit(np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([1.0, 3.0, 5.0, 9.0]))
    found = explained(fit)
    assert found.value == pytest.approx(1 - 10 / 35 * 3 / 2)
    assert found.p == pytest.approx(1 - np.sqrt(5 / 7))
    assert found.low == 0.0
    assert found.high > 0.8
    assert explained(Fit(np.ones((4, 1)), np.arange(4.0))) is None


def test_the_intervals_hold_what_they_should():
    """300 simulated studies with a true share of 0.5·0.25 / (0.5·0.25 + 1): about 95 % of the intervals hold it."""
    rng = np.random.default_rng(0)
    held_share = held_effect = 0
    x = np.tile([[0.0], [1.0]], (15, 1))
    truth = (0.25 * 0.8**2) / (0.25 * 0.8**2 + 1)
    for _ in range(300):
        fit = Fit(x, 0.8 * x[:, 0] + rng.normal(size=30))
        share, effect = explained(fit), fit.contrast(np.ones(1))
        held_share += share.low <= truth <= share.high
        held_effect += effect.low <= 0.8 <= effect.high
    assert 0.92 <= held_share / 300 <= 0.98
    assert 0.92 <= held_effect / 300 <= 0.98


def test_holm_by_hand():
    """0.01 < 0.05/4, 0.015 < 0.05/3, 0.03 > 0.05/2 and so the rest stands, 0.04 too."""
    assert holm(np.array([0.04, 0.01, np.nan, 0.03, 0.015])).tolist() == [False, True, False, False, True]
    assert holm(np.array([0.04])).tolist() == [True]
    assert holm(np.array([])).tolist() == []
