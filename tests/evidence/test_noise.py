"""The noise of a run, against values by hand."""

import numpy as np
import pytest

from nasbench.evidence.noise import Noise, pooled_noise
from nasbench.evidence.trainings import Trainings


def plan(*scores):
    return Trainings.of(scores)


def of_items(*seeds, **more):
    items = [np.array(one, dtype=float) for one in seeds]
    return Trainings.of([one.mean() for one in items], items, **more)


def test_the_seed_variance_is_pooled():
    """Seeds (0, 2), (1, 1) and one alone: sums of squares 2 and 0 over 2 degrees of freedom."""
    noise = pooled_noise([plan(0.0, 2.0), plan(1.0, 1.0), plan(9.0)])
    assert (noise.seed_variance, noise.freedom) == (1.0, 2)
    assert (noise.items, noise.interaction, noise.item_variance) == (0, 0.0, 0.0)


def test_one_seed_a_plan_shows_no_noise():
    noise = pooled_noise([plan(0.1), plan(0.2)])
    assert noise.freedom == 0
    assert np.isnan(noise.seed_variance)
    assert np.isnan(noise.error(1, 1)).all()


def test_earlier_runs_add_their_degrees_of_freedom():
    """A variance of 4 on 6 degrees and one of 2 on 1: (24 + 2) / 7."""
    noise = pooled_noise([plan(0.0, 2.0)], earlier=[Noise(4.0, 6), Noise(np.nan, 0)])
    assert noise.freedom == 7
    assert noise.seed_variance == pytest.approx(26 / 7)
    assert pooled_noise([plan(0.0)], earlier=[Noise(4.0, 6)]).seed_variance == 4.0


def test_a_failed_training_does_not_count():
    trained = Trainings.of([0.5, None, 0.7, float("nan")], [np.full(2, 0.5), None, np.full(2, 0.7), None])
    assert trained.seeds == 2
    assert trained.items.shape == (2, 2)
    assert Trainings.of([0.5, 0.7], [np.zeros(2), None]).items is None  # of a training that succeeded


def test_an_error_changes_its_sign_at_the_door():
    trained = of_items([0.0, 0.4], [0.2, 0.2], direction="minimize")
    assert trained.scores.tolist() == [-0.2, -0.2]
    assert trained.items.tolist() == [[0.0, -0.4], [-0.2, -0.2]]


def test_a_shift_of_all_items_is_no_interaction():
    """Two seeds differ by 1 on every item: all of it is seed variance, ½, and nothing is the items'."""
    noise = pooled_noise([of_items([0.0, 2.0, 4.0, 6.0], [1.0, 3.0, 5.0, 7.0])])
    assert noise.seed_variance == pytest.approx(0.5)
    assert noise.interaction == pytest.approx(0.0)


def test_what_seeds_change_on_single_items_is_interaction():
    """Residuals ±½ on both items of both seeds: per seed the variance is ½, so their sum over 2 − 1 is 1."""
    noise = pooled_noise([of_items([0.0, 1.0], [1.0, 0.0])])
    assert noise.interaction == pytest.approx(1.0)
    assert noise.item_variance == pytest.approx(0.2 * 1.0 / 2)  # expected, before two plans were compared


def test_variances_and_degrees_of_freedom_add_up():
    """V = 3 on 9 degrees, s² = 2 on 4: SE² = 3 + 2·(1/2 + 1/2) = 5, df = 25 / (9/9 + 4/4)."""
    noise = Noise(2.0, 4, item_variance=3.0, item_freedom=9.0)
    error, freedom = noise.error(2, 2)
    assert error**2 == pytest.approx(5.0)
    assert freedom == pytest.approx(12.5)
    assert Noise(2.0, 4).error(1, 1) == pytest.approx((2.0, 4.0))  # without items the freedom is that of the seeds


def test_scores_on_a_grid_that_agree_are_not_certain():
    """Two seeds, both right on 2 of 4 items: the step is ¼, and a difference has a variance of (1/4)²/6 at least."""
    noise = pooled_noise([of_items([1, 1, 0, 0], [1, 1, 0, 0])])
    assert noise.grid == 0.25
    assert noise.seed_variance == pytest.approx(0.25**2 / 12)
    error, _ = noise.with_items(0.0).error(50, 50)
    assert error**2 == pytest.approx(0.25**2 / 6)
    assert pooled_noise([of_items([0.5, 1.0], [0.5, 1.0])]).grid == 0.0
