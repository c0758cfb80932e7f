"""The paired comparison, and the two rules that every caller relies on."""

import numpy as np
import pytest
from nasbench.evidence.intervals import pooled_seed_deviation

from nasbench.evidence.pairs import PairedDifference, compare_pair, verdict_of

ITEMS_ALONE = {"direction": "maximize", "block": 1, "fewest_seeds": 1}
UP = {"direction": "maximize", "block": 1}


def seeds(level, count, spread=0.01):
    """Items of `count` seeds around a level, not the same noise at two levels; seed by seed `spread` more."""
    rng = np.random.default_rng(int(100 * level))
    return [level + spread * seed + 0.1 * rng.normal(size=400) for seed in range(count)]


def test_pairing_makes_a_small_difference_visible():
    """Items differ much, plans by one item in twenty: unpaired the interval would hold zero."""
    bare = np.zeros(400)
    bare[:200] = 1.0
    plan = bare.copy()
    plan[200:220] = 1.0
    found = compare_pair([plan], [bare], spread=0.0, **ITEMS_ALONE)
    assert np.isclose(found.difference, 0.05)
    assert found.low > 0.02
    assert found.high < 0.08
    noisy = compare_pair([plan], [bare], spread=0.1, **ITEMS_ALONE)
    assert noisy.low < 0 < noisy.high


def test_pairs_of_windows_that_overlap_are_drawn_in_blocks():
    """Items that repeat in runs of 10 hold a tenth of the information: the interval is √10 wider."""
    items = np.repeat(np.random.default_rng(0).normal(size=200), 10)
    true = 2 * 1.96 * items.std() / np.sqrt(200)
    gap = compare_pair([items], [np.zeros(2000)], spread=0.0, **{**ITEMS_ALONE, "block": 10})
    assert np.isclose(gap.high - gap.low, true, rtol=0.2)


@pytest.mark.parametrize(
    ("low", "high", "seeds", "told"),
    [(0.1, 0.3, 3, "BETTER"), (-0.3, -0.1, 3, "WORSE"), (-0.1, 0.3, 3, "NOT DECIDED"), (0.1, 0.3, 1, "NOT DECIDED"),
     (float("nan"), float("nan"), 3, "NOT DECIDED")],
)  # fmt: skip
def test_a_verdict_needs_two_seeds_and_an_interval(low, high, seeds, told):
    assert verdict_of(low, high, "maximize", seeds) == told
    opposite = {"BETTER": "WORSE", "WORSE": "BETTER"}
    assert verdict_of(low, high, "minimize", seeds) == opposite.get(told, told)


def test_an_error_that_falls_is_better():
    assert compare_pair(seeds(0.5, 3), seeds(1.0, 3), direction="minimize", block=1).verdict == "BETTER"
    assert compare_pair(seeds(0.5, 3), seeds(1.0, 3), **UP).verdict == "WORSE"


def test_one_seed_decides_nothing():
    """Neither by default, where it has no interval, nor where an interval of the items is asked for."""
    found = compare_pair(seeds(1.0, 1), seeds(0.5, 3), **UP)
    assert (found.seeds, found.verdict, found.has_interval) == (1, "NOT DECIDED", False)
    assert found.difference == pytest.approx(0.5, abs=0.05)
    of_items = compare_pair(seeds(1.0, 1), seeds(0.5, 1), **ITEMS_ALONE)
    assert 0 < of_items.low < of_items.difference < of_items.high
    assert of_items.verdict == "NOT DECIDED"


def test_without_stored_items_there_is_no_interval():
    for plan, reference in (([None, None], seeds(0.5, 2)), (seeds(1.0, 2), [*seeds(0.5, 1), None]), ([], [])):
        found = compare_pair(plan, reference, **UP)
        assert np.isnan([found.difference, found.low, found.high]).all()
        assert (found.verdict, found.has_interval) == ("NOT DECIDED", False)
        assert found.seeds == min(len(plan), len(reference))


def test_the_spread_is_that_of_the_two_unless_a_pooled_one_is_given():
    plan, bare = seeds(1.0, 3), seeds(0.5, 3)
    own = pooled_seed_deviation([plan, bare])
    assert compare_pair(plan, bare, **UP) == compare_pair(plan, bare, spread=own, **UP)
    wide = compare_pair(plan, bare, spread=10 * own, **UP)
    narrow = compare_pair(plan, bare, **UP)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_the_bare_backbone_against_itself():
    assert PairedDifference.of_itself(3) == PairedDifference(0.0, 0.0, 0.0, "BARE", 3)
