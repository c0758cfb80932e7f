"""Fronts, hypervolume and ties, against values by hand and against the definition."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from nasbench.evidence import pareto

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


def test_ties_share_a_rank_and_chains_do_not_join():
    """With a resolution of 1 %: 100, 100.9 and 101 are one rank, 101.1 begins the next, which 102.1 shares."""
    values = np.array([102.1, 100.9, 101.0, 100.0, 101.1, 200.0])
    assert pareto.tied(values, 0.01).tolist() == [101.1, 100.0, 100.0, 100.0, 101.1, 200.0]
    assert pareto.tied(values, 0.0).tolist() == values.tolist()
