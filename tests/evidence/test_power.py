"""Power, against values by hand."""

import numpy as np
import pytest
from scipy.stats import t as student

from nasbench.evidence.noise import Noise
from nasbench.evidence.power import detectable_difference, items_needed, least_difference, more_seeds

NOISE = Noise(seed_variance=4.0, freedom=10, items=1000, item_variance=0.25, item_freedom=np.inf)


def test_the_detectable_difference():
    """At 4 seeds SE² = 0.25 + 2·4/4 = 2.25, and df = 10·(2.25/2)²."""
    freedom = 10 * (2.25 / 2) ** 2
    expected = (student.ppf(0.975, freedom) + student.ppf(0.8, freedom)) * 1.5
    assert detectable_difference(4, NOISE) == pytest.approx(expected)
    assert np.isnan(detectable_difference(4, Noise(np.nan, 0)))


def test_the_floor_and_the_items_that_lower_it():
    assert least_difference(NOISE) == pytest.approx(1.4)
    assert least_difference(Noise(4.0, 10)) == 0.0
    assert items_needed(0.7, NOISE) == 4000  # half the floor takes four times the items
    assert items_needed(-0.7, NOISE) == 4000
    assert items_needed(0.7, Noise(4.0, 10)) is None


def test_the_seeds_that_would_decide_are_the_fewest():
    added = more_seeds(-2.5, 3, 4, NOISE)
    assert added is not None
    total = 3 + added

    def at(seeds):
        return detectable_difference(seeds, NOISE.with_seeds(seeds - 3 + max(0, seeds - 4)))

    assert at(total) <= 2.5 < at(total - 1)


def test_a_large_difference_takes_one_more_seed():
    assert more_seeds(100.0, 1, 3, NOISE) == 1


@pytest.mark.parametrize("effect", [0.0, 1.4, -1.3, np.nan])
def test_no_number_of_seeds_decides_a_difference_below_the_floor(effect):
    assert more_seeds(effect, 3, 3, NOISE) is None


def test_nor_one_that_would_take_thousands():
    assert more_seeds(0.001, 3, 3, Noise(4.0, 10)) is None
    assert more_seeds(1.0, 1, 1, Noise(np.nan, 0)) is None
