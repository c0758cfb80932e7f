"""The probability of being on the front, where metric or latency are noisy."""

import numpy as np

from nasbench.evidence.front_probability import front_probability, log_deviation

UP_DOWN = ["maximize", "minimize"]


def test_a_clear_winner_is_on_the_front_surely_and_a_tie_is_not():
    rng = np.random.default_rng(0)
    good, same, bad = (rng.random(400) < p for p in (0.9, 0.9, 0.3))
    items = [[good.astype(float)], [same.astype(float)], [bad.astype(float)]]
    chance = front_probability(items, np.array([[1.0], [1.0], [1.0]]), UP_DOWN)
    assert chance[2] == 0.0
    assert 0.02 < chance[0] < 0.98
    cheaper = front_probability(items, np.array([[2.0], [2.0], [1.0]]), UP_DOWN)
    assert cheaper[2] == 1.0


def test_the_deviation_of_a_measured_ratio():
    """exp(±1.96·0.01) is the 95 % interval of a ratio whose logarithm has deviation 0.01."""
    low, high = np.exp([-0.0195996, 0.0195996])
    found = log_deviation(np.array([low, np.nan, 1.0]), np.array([high, np.nan, 1.0]))
    assert np.allclose(found, [0.01, 0.0, 0.0])


ALIKE = [[np.ones(10)]] * 2
"""Two plans whose metric is 1 for every item: only the cost decides."""


def chance(costs, **more):
    return front_probability(ALIKE, np.array(costs), UP_DOWN, **more).tolist()


def test_a_latency_that_is_not_sure_leaves_the_front_open():
    """The difference of two logarithms of deviation s has deviation 1.414·s: at a gap of one such, P = 0.841."""
    assert chance([[1.0], [1.01]]) == [1.0, 0.0]
    sure = np.array([[0.0], [0.0]])
    assert chance([[1.0], [1.01]], cost_deviation=sure) == [1.0, 0.0]
    gap = np.log(1.01)
    open_ = chance([[1.0], [1.01]], cost_deviation=sure + gap / np.sqrt(2), resamples=4000)
    assert np.allclose(open_, [0.841, 0.159], atol=0.02)
    one_sided = chance([[1.0], [1.01]], cost_deviation=np.array([[gap], [0.0]]), resamples=4000)
    assert np.allclose(one_sided, [0.841, 0.159], atol=0.02)


def test_a_tie_in_latency_is_decided_by_the_metric():
    assert chance([[1.0], [1.005]], resolution=[0.01]) == [1.0, 1.0]
    better = [[np.zeros(10)], [np.ones(10)]]
    costs = np.array([[1.0], [1.005]])
    assert front_probability(better, costs, UP_DOWN, resolution=[0.01]).tolist() == [0.0, 1.0]
    assert front_probability(better, costs, UP_DOWN).tolist() == [1.0, 1.0]


def test_the_items_are_paired_between_plans():
    """One plan is right where the other is, and on one item in twenty more: drawn apart they would cross often."""
    worse = np.repeat([1.0, 0.0], 200)
    better = worse.copy()
    better[200:220] = 1.0
    costs = np.array([[1.0], [1.0]])
    assert front_probability([[worse], [better]], costs, UP_DOWN).tolist() == [0.0, 1.0]
