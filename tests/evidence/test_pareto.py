import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from nasbench.evidence import pareto
from nasbench.evidence.comparison import verdict

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


def test_ties_share_a_rank_and_chains_do_not_join():
    """With a resolution of 1 %: 100, 100.9 and 101 are one rank, 101.1 begins the next, which 102.1 shares."""
    values = np.array([102.1, 100.9, 101.0, 100.0, 101.1, 200.0])
    assert pareto.tied(values, 0.01).tolist() == [101.1, 100.0, 100.0, 100.0, 101.1, 200.0]
    assert pareto.tied(values, 0.0).tolist() == values.tolist()


def test_the_deviation_of_a_measured_ratio():
    """exp(±1.96·0.01) is the 95 % interval of a ratio whose logarithm has deviation 0.01."""
    low, high = np.exp([-0.0195996, 0.0195996])
    found = pareto.log_deviation(np.array([low, np.nan, 1.0]), np.array([high, np.nan, 1.0]))
    assert np.allclose(found, [0.01, 0.0, 0.0])


ALIKE = [[np.ones(10)]] * 2
"""Two plans whose metric is 1 for every item: only the cost decides."""


def chance(costs, **more):
    return pareto.front_probability(ALIKE, np.array(costs), UP_DOWN, **more).tolist()


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
    assert pareto.front_probability(better, costs, UP_DOWN, resolution=[0.01]).tolist() == [0.0, 1.0]
    assert pareto.front_probability(better, costs, UP_DOWN).tolist() == [1.0, 1.0]


def test_windows_that_overlap_are_drawn_in_blocks():
    """Items that repeat in runs of 10 hold a tenth of the information: the interval is √10 wider."""
    rng = np.random.default_rng(0)
    items = np.repeat(rng.normal(size=200), 10)
    low, high = pareto.metric_interval([items], 0.0)
    wide_low, wide_high = pareto.metric_interval([items], 0.0, block=10)
    true = 2 * 1.96 * items.std() / np.sqrt(200)
    assert np.isclose((high - low) * np.sqrt(10), true, rtol=0.1)
    assert np.isclose(wide_high - wide_low, true, rtol=0.2)
    gap = pareto.paired_difference([items], [np.zeros(2000)], 0.0, block=10)
    assert np.isclose(gap["high"] - gap["low"], true, rtol=0.2)
    few = pareto.metric_interval([np.arange(8.0)], 0.0, block=100)  # cut to blocks of two
    assert few[0] < 3.5 < few[1]


def test_the_items_are_paired_between_plans():
    """One plan is right where the other is, and on one item in twenty more: drawn apart they would cross often."""
    worse = np.repeat([1.0, 0.0], 200)
    better = worse.copy()
    better[200:220] = 1.0
    costs = np.array([[1.0], [1.0]])
    assert pareto.front_probability([[worse], [better]], costs, UP_DOWN).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("low", "high", "seeds", "told"),
    [(0.1, 0.3, 3, "BETTER"), (-0.3, -0.1, 3, "WORSE"), (-0.1, 0.3, 3, "NOT DECIDED"), (0.1, 0.3, 1, "NOT DECIDED"),
     (float("nan"), float("nan"), 3, "NOT DECIDED")],
)  # fmt: skip
def test_a_verdict_needs_two_seeds_and_an_interval(low, high, seeds, told):
    assert verdict({"low": low, "high": high}, "maximize", seeds) == told
    opposite = {"BETTER": "WORSE", "WORSE": "BETTER"}
    assert verdict({"low": low, "high": high}, "minimize", seeds) == opposite.get(told, told)
