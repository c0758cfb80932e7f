import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from nasbench import pareto

UP_DOWN = ["maximize", "minimize"]


def test_the_front_by_hand():
    values = np.array([[0.9, 10], [0.8, 5], [0.85, 12], [0.9, 10], [np.nan, 1]])
    assert pareto.non_dominated(values, UP_DOWN).tolist() == [True, True, False, True, False]
    assert pareto.non_dominated(np.empty((0, 2)), UP_DOWN).tolist() == []


@given(arrays(float, (12, 3), elements=st.integers(0, 5).map(float)))
@settings(max_examples=100, deadline=None)
def test_the_front_against_its_definition(values):
    directions = ["maximize", "minimize", "minimize"]
    points = pareto.minimised(values, directions)
    dominated = [any((other <= point).all() and (other < point).any() for other in points) for point in points]
    assert pareto.non_dominated(values, directions).tolist() == [not d for d in dominated]


def test_hypervolume_by_hand():
    """Two rectangles up to (accuracy 0, cost 10): 0.9·(10-4) and, below cost 4, 0.5·(4-1)."""
    values = np.array([[0.9, 4.0], [0.5, 1.0], [0.4, 2.0]])
    assert np.isclose(pareto.hypervolume(values, UP_DOWN, [0.0, 10.0]), 0.9 * 6 + 0.5 * 3)
    assert pareto.hypervolume(np.empty((0, 2)), UP_DOWN, [0.0, 10.0]) == 0.0


def test_a_clear_winner_is_on_the_front_surely_and_a_tie_is_not():
    rng = np.random.default_rng(0)
    good, same, bad = (rng.random(400) < p for p in (0.9, 0.9, 0.3))
    items = [[good.astype(float)], [same.astype(float)], [bad.astype(float)]]
    chance = pareto.front_probability(items, np.array([[1.0], [1.0], [1.0]]), UP_DOWN)
    assert chance[2] == 0.0
    assert 0.02 < chance[0] < 0.98
    cheaper = pareto.front_probability(items, np.array([[2.0], [2.0], [1.0]]), UP_DOWN)
    assert cheaper[2] == 1.0


def test_pairing_makes_a_small_difference_visible():
    """Items differ much, plans by one item in twenty: unpaired the interval would hold zero."""
    bare = np.zeros(400)
    bare[:200] = 1.0
    plan = bare.copy()
    plan[200:220] = 1.0
    found = pareto.paired_difference([plan], [bare], spread=0.0)
    assert np.isclose(found["difference"], 0.05)
    assert found["low"] > 0.02
    assert found["high"] < 0.08
    noisy = pareto.paired_difference([plan], [bare], spread=0.1)
    assert noisy["low"] < 0 < noisy["high"]


def test_the_seed_deviation_is_pooled():
    """Two plans with seed means (0, 2) and (1, 1): sums of squares 2 and 0 over 2 degrees of freedom."""
    items = [[np.zeros(4), np.full(4, 2.0)], [np.ones(4), np.ones(4)], [np.full(4, 9.0)]]
    assert pareto.pooled_seed_deviation(items) == 1.0
    assert pareto.pooled_seed_deviation([[np.ones(4)]]) == 0.0


def test_the_interval_of_a_share():
    """0.5 over 400 items: ±1.96·0.5/20."""
    low, high = pareto.metric_interval([np.repeat([0.0, 1.0], 200)], spread=0.0)
    assert np.isclose(low, 0.451, atol=0.01)
    assert np.isclose(high, 0.549, atol=0.01)
