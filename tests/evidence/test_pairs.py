"""The paired comparison, against values by hand."""

import numpy as np
import pytest
from scipy.stats import t as student

from nasbench.evidence.noise import Noise, pooled_noise
from nasbench.evidence.pairs import PairedDifference, compare_pair, mean_interval, verdict_of
from nasbench.evidence.trainings import Trainings


def plan(*scores, **more):
    return Trainings.of(scores, **more)


def of_items(items, **more):
    return Trainings.of([float(one.mean()) for one in items], list(items), **more)


def test_scores_alone():
    """Means 2 and 0, s² = 2 on 2 degrees of freedom, so SE² = 2·(1/2 + 1/2): a plain t test of two samples."""
    pair = compare_pair(plan(1.0, 3.0), plan(-1.0, 1.0))
    assert (pair.difference, pair.seeds, pair.freedom) == (2.0, 2, 2.0)
    assert pair.error == pytest.approx(np.sqrt(2))
    half = student.ppf(0.975, 2) * np.sqrt(2)
    assert (pair.low, pair.high) == pytest.approx((2 - half, 2 + half))
    assert pair.p == pytest.approx(2 * student.sf(np.sqrt(2), 2))
    assert pair.verdict == "NOT DECIDED"


def test_the_noise_of_the_run_decides_what_two_plans_alone_cannot():
    pair = compare_pair(plan(1.0, 3.0), plan(-1.0, 1.0), Noise(0.5, 20))
    assert pair.error == pytest.approx(np.sqrt(0.5))
    assert pair.verdict == "BETTER"
    assert compare_pair(plan(-1.0, 1.0), plan(1.0, 3.0), Noise(0.5, 20)).verdict == "WORSE"


def test_unequal_numbers_of_seeds():
    pair = compare_pair(plan(*[0.5] * 4), plan(*[0.0] * 3), Noise(1.2, 10))
    assert pair.error**2 == pytest.approx(1.2 * (1 / 4 + 1 / 3))
    assert (pair.seeds, pair.freedom) == (3, 10.0)


def test_one_seed_on_either_side_has_no_interval():
    for pair in (compare_pair(plan(1.0), plan(0.0, 0.1, 0.2)), compare_pair(plan(1.0, 1.1), plan(0.5), Noise(0.01, 9))):
        assert (pair.seeds, pair.verdict, pair.has_interval) == (1, "NOT DECIDED", False)
        assert pair.difference > 0
        assert np.isnan(pair.p)
    assert np.isnan(mean_interval(plan(1.0), Noise(0.01, 9))).all()
    assert np.isnan(compare_pair(plan(), plan(1.0, 2.0)).difference)


def test_an_error_that_falls_is_better():
    sides = [Trainings.of(scores, direction="minimize") for scores in ([0.50, 0.51], [0.90, 0.91])]
    pair = compare_pair(*sides)
    assert pair.difference == pytest.approx(0.4)
    assert pair.verdict == "BETTER"


def test_pairing_makes_a_small_difference_visible():
    """Items differ much, plans by one item in twenty. The variance of the gap is 0.05·0.95."""
    bare = np.zeros(400)
    bare[:200] = 1.0
    better = bare.copy()
    better[200:220] = 1.0
    pair = compare_pair(of_items([better] * 2), of_items([bare] * 2))
    assert pair.difference == pytest.approx(0.05)
    floor = 2 * (1 / 400) ** 2 / 12  # of s², because accuracy has a step of 1/400
    assert pair.error**2 == pytest.approx(0.05 * 0.95 * 400 / 399 / 400 + floor / 2)
    assert pair.verdict == "BETTER"


def test_what_seeds_change_on_items_is_not_counted_twice():
    """Seeds that redraw every item make V zero on average: s² has that noise already. Mean of 200, error 4 %."""
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(200):
        sides = [of_items(rng.normal(size=(3, 400))) for _ in range(2)]
        errors.append(compare_pair(*sides, Noise(1 / 400, 100)).error ** 2)
    # V is cut off at 0, so its mean is a little above: half of 2/3·√(2/400) of an item's share.
    assert np.mean(errors) == pytest.approx(2 / 3 / 400, rel=0.06)


def test_windows_that_overlap_widen_the_interval():
    """Items that repeat in runs of 10 hold a tenth of the information: the error is about √10 times as large."""
    items = np.repeat(np.random.default_rng(0).normal(size=200), 10)
    alone, overlapping = (
        compare_pair(of_items([items] * 2, block=block), of_items([np.zeros(2000)] * 2, block=block))
        for block in (1, 10)
    )
    assert overlapping.error == pytest.approx(np.sqrt(10) * alone.error, rel=0.2)
    # Without seed noise the quantile is the fixed-b one, with b = 1/5.
    quantile = 1.96 + 2.9694 * 0.2 + 0.416 * 0.2**2 - 0.5324 * 0.2**3
    assert (overlapping.high - overlapping.difference) / overlapping.error == pytest.approx(quantile)


def test_too_short_a_series_decides_nothing():
    items = np.arange(15.0)
    pair = compare_pair(of_items([items + 9] * 2, block=10), of_items([items] * 2, block=10))
    assert (pair.difference, pair.verdict, pair.has_interval) == (9.0, "NOT DECIDED", False)


def test_figures_without_any_noise_are_certain():
    pair = compare_pair(plan(0.7, 0.7), plan(0.5, 0.5))
    assert (pair.verdict, pair.p, pair.low == pair.high) == ("BETTER", 0.0, True)
    same = compare_pair(plan(0.5, 0.5), plan(0.5, 0.5))
    assert (same.verdict, same.p) == ("NOT DECIDED", 1.0)


def test_the_interval_of_a_share():
    """0.5 over 400 items, seeds alike: ±1.97·0.5/20."""
    low, high = mean_interval(of_items([np.repeat([0.0, 1.0], 200)] * 2))
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.001)


def test_other_items_cannot_be_paired():
    with pytest.raises(ValueError, match="broadcast"):
        compare_pair(of_items(np.zeros((2, 5))), of_items(np.zeros((2, 6))))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "BETTER"), (-0.3, -0.1, "WORSE"), (-0.1, 0.3, "NOT DECIDED"), (np.nan, np.nan, "NOT DECIDED")],
)
def test_a_verdict_is_an_interval_without_zero(low, high, verdict):
    assert verdict_of(low, high) == verdict


def test_the_bare_backbone_against_itself():
    itself = PairedDifference.of_itself(3)
    assert (itself.difference, itself.low, itself.high, itself.verdict, itself.seeds) == (0.0, 0.0, 0.0, "BARE", 3)
    assert itself.has_interval


def test_the_noise_is_that_of_the_two_unless_a_pooled_one_is_given():
    sides = plan(1.0, 3.0), plan(-1.0, 1.0)
    assert compare_pair(*sides) == compare_pair(*sides, pooled_noise(sides))
