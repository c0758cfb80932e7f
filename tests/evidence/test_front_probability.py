"""The probability of being on the front, where metric or latency are noisy."""

import numpy as np
from scipy.stats import t as student

from nasbench.evidence.front_probability import front_probability, log_deviation
from nasbench.evidence.noise import Noise

UP_DOWN = ["maximize", "minimize"]
SURE = Noise(0.0, 10)


def chance(scores, costs, noise=SURE, seeds=None, **more):
    counts = np.ones(len(scores), dtype=int) if seeds is None else np.array(seeds)
    return front_probability(np.array(scores), counts, noise, np.array(costs), UP_DOWN, **more).tolist()


def test_a_clear_winner_is_on_the_front_surely_and_a_tie_is_not():
    good, same, bad = chance([0.9, 0.9, 0.3], [[1.0], [1.0], [1.0]], Noise(1e-4, 10))
    assert bad == 0.0
    assert abs(good - 0.5) < 0.05
    assert np.isclose(good + same, 1.0)
    assert chance([0.9, 0.9, 0.3], [[2.0], [2.0], [1.0]], Noise(1e-4, 10))[2] == 1.0


def test_a_difference_has_the_error_and_the_t_of_its_interval():
    """Seeds 2 and 1, s² = 1, ν = 3, V = 0.5: P(Δ > 0) of two plans of one cost. Mean of 6,000 draws, ± .006."""
    noise = Noise(1.0, 3)
    found = chance([1.0, 0.0], [[1.0], [1.0]], noise, (2, 1), resamples=6000)[0]
    assert np.isclose(found, student.cdf(1 / np.sqrt(1.5), 3), atol=0.018)
    items_alone = Noise(0.0, 3, item_variance=0.5, item_freedom=np.inf)
    found = chance([1.0, 0.0], [[1.0], [1.0]], items_alone, resamples=6000)[0]
    assert np.isclose(found, student.cdf(1 / np.sqrt(0.5), 1e9), atol=0.018)


def test_without_two_seeds_of_any_plan_it_is_not_known():
    assert np.isnan(chance([0.9, 0.8], [[1.0], [1.0]], Noise(np.nan, 0))).all()


def test_the_deviation_of_a_measured_ratio():
    """exp(±1.96·0.01) is the 95 % interval of a ratio whose logarithm has deviation 0.01."""
    low, high = np.exp([-0.0195996, 0.0195996])
    deviation = log_deviation(np.array([low, np.nan, 1.0]), np.array([high, np.nan, 1.0]))
    assert np.allclose(deviation, [0.01, 0.0, 0.0])


def test_a_latency_that_is_not_sure_leaves_the_front_open():
    """The difference of two logarithms of deviation s has deviation 1.414·s: at a gap of one such, P = 0.841."""
    alike = [1.0, 1.0]
    assert chance(alike, [[1.0], [1.01]]) == [1.0, 0.0]
    sure = np.array([[0.0], [0.0]])
    assert chance(alike, [[1.0], [1.01]], cost_deviation=sure) == [1.0, 0.0]
    gap = np.log(1.01)
    open_ = chance(alike, [[1.0], [1.01]], cost_deviation=sure + gap / np.sqrt(2), resamples=4000)
    assert np.allclose(open_, [0.841, 0.159], atol=0.02)
    one_sided = chance(alike, [[1.0], [1.01]], cost_deviation=np.array([[gap], [0.0]]), resamples=4000)
    assert np.allclose(one_sided, [0.841, 0.159], atol=0.02)


def test_a_tie_in_latency_is_decided_by_the_metric():
    costs = [[1.0], [1.005]]
    assert chance([1.0, 1.0], costs, resolution=[0.01]) == [1.0, 1.0]
    assert chance([0.0, 1.0], costs, resolution=[0.01]) == [0.0, 1.0]
    assert chance([0.0, 1.0], costs) == [1.0, 1.0]
