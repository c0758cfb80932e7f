"""Intervals over items and seeds, against values by hand."""

import numpy as np
from nasbench.evidence.intervals import metric_interval, pooled_seed_deviation


def test_the_seed_deviation_is_pooled():
    """Two plans with seed means (0, 2) and (1, 1): sums of squares 2 and 0 over 2 degrees of freedom."""
    items = [[np.zeros(4), np.full(4, 2.0)], [np.ones(4), np.ones(4)], [np.full(4, 9.0)]]
    assert pooled_seed_deviation(items) == 1.0
    assert pooled_seed_deviation([[np.ones(4)]]) == 0.0


def test_the_interval_of_a_share():
    """0.5 over 400 items: ±1.96·0.5/20."""
    low, high = metric_interval([np.repeat([0.0, 1.0], 200)], spread=0.0)
    assert np.isclose(low, 0.451, atol=0.01)
    assert np.isclose(high, 0.549, atol=0.01)


def test_windows_that_overlap_are_drawn_in_blocks():
    """Items that repeat in runs of 10 hold a tenth of the information: the interval is √10 wider."""
    rng = np.random.default_rng(0)
    items = np.repeat(rng.normal(size=200), 10)
    low, high = metric_interval([items], 0.0)
    wide_low, wide_high = metric_interval([items], 0.0, block=10)
    true = 2 * 1.96 * items.std() / np.sqrt(200)
    assert np.isclose((high - low) * np.sqrt(10), true, rtol=0.1)
    assert np.isclose(wide_high - wide_low, true, rtol=0.2)
    few = metric_interval([np.arange(8.0)], 0.0, block=100)  # cut to blocks of two
    assert few[0] < 3.5 < few[1]
