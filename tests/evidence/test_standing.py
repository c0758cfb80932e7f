"""Tests of the noise of the plans that are not left out."""

import numpy as np
import pytest

from nasbench.evidence.noise import Noise, pooled_noise
from nasbench.evidence.pairs import compare_pair
from nasbench.evidence.standing import kept_noise
from nasbench.evidence.trainings import Trainings
from nasbench.evidence.verdicts import judge_plans

BARE = Trainings.of([0.0, 1.0, 2.0])
NEAR = [Trainings.of([0.0, 1.0, 2.0]), Trainings.of([1.0, 2.0, 3.0]), Trainings.of([-1.0, 0.0, 1.0])]
BROKEN = Trainings.of([-60.0, -50.0, -40.0])


def test_the_noise_of_a_broken_network_is_not_that_of_others():
    """Each of the others has squares of 2 and 2 degrees of freedom, the broken one 200: 208 / 10 or 8 / 8."""
    assert pooled_noise([BARE, *NEAR, BROKEN]).seed_variance == pytest.approx(20.8)
    noise = kept_noise([*NEAR, BROKEN], BARE)
    assert (noise.seed_variance, noise.freedom) == (pytest.approx(1.0), 8)


def test_a_plan_that_hides_in_the_noise_that_it_made_is_left_out():
    """With the pool of all, s² is 20.8: 3·√(20.8·2/3) = 11.2, so -8 and a plan at -9 with a wide spread would stay."""
    wide = Trainings.of([-29.0, -9.0, 11.0])
    noise = kept_noise([*NEAR, wide], BARE)
    assert (noise.seed_variance, noise.freedom) == (pytest.approx(1.0), 8)
    worse = Trainings.of([-9.0, -8.0, -7.0])
    noise = kept_noise([*NEAR, BROKEN, worse], BARE)
    assert (noise.seed_variance, noise.freedom) == (pytest.approx(1.0), 8)


def test_without_a_plan_far_below_it_is_the_pool_of_all():
    earlier = [Noise(4.0, 6)]
    assert kept_noise(NEAR, BARE, earlier=earlier) == pooled_noise([*NEAR, BARE], earlier=earlier)
    assert kept_noise([], BARE, earlier=earlier) == pooled_noise([BARE], earlier=earlier)
    assert np.isnan(kept_noise([Trainings.of([0.0])], Trainings.of([1.0])).seed_variance)


def test_a_plan_that_is_left_out_has_the_interval_of_its_own_noise():
    judged = judge_plans([*NEAR, BROKEN], BARE, [[("stage1", str(number))] for number in range(4)])
    assert judged.pairs[3] == compare_pair(BROKEN, BARE)
    assert judged.pairs[0] == compare_pair(NEAR[0], BARE, kept_noise([*NEAR, BROKEN], BARE))
    assert judged.verdicts[3] == "WORSE"
