"""Verdicts on all plans of a run: by hand, and simulated through the script that prints their rates."""

import numpy as np
import pytest

from nasbench.evidence.noise import Noise
from nasbench.evidence.trainings import Trainings
from nasbench.evidence.verdicts import judge_plans
from scripts.benchmarks import verdicts as simulation

NOISE = Noise(0.01, 30)
MANY = [[("stage1", "se")], [("stage1", "eca")], [("stage1", "sk")], [("stage1", "cbam")], [("stage1", "gct")]]


def at(*means, seeds=3):
    return [Trainings.of([mean] * seeds) for mean in means]


def test_few_plans_are_judged_by_their_intervals_and_holm():
    """SE = 0.0816. The p of 2.4 of it is 0.023: enough alone, but not as the better of two (0.025 is asked of 0.02)."""
    bare = Trainings.of([0.0] * 3)
    alone = judge_plans(at(0.196), bare, MANY[:1], noise=NOISE)
    assert (alone.rule, alone.verdicts, alone.posterior) == ("holm", ("BETTER",), None)
    assert alone.pairs[0].p == pytest.approx(0.0226, abs=0.001)
    three = judge_plans(at(0.196, 0.0, 0.01), bare, MANY[:3], noise=NOISE)
    assert three.pairs[0].verdict == "BETTER"
    assert three.verdicts == ("NOT DECIDED",) * 3
    assert three.p_better[0] == pytest.approx(1 - 0.0226 / 2, abs=0.001)
    assert judge_plans(at(-0.5, 0.5), bare, MANY[:2], noise=NOISE).verdicts == ("WORSE", "BETTER")


def test_four_plans_or_more_are_judged_by_the_model():
    plans = [*at(0.6, 0.02, -0.6, -9.0), Trainings.of([0.9])]
    judged = judge_plans(plans, Trainings.of([0.0] * 4), MANY, noise=NOISE)
    assert judged.rule == "model"
    assert judged.verdicts == ("BETTER", "NOT DECIDED", "WORSE", "WORSE", "NOT DECIDED")
    assert judged.posterior.left_out.tolist() == [False, False, False, True, False]
    assert np.isnan(judged.more_seeds[[0, 2, 3]]).all()
    assert judged.more_seeds[4] >= 1  # one seed, a large difference
    assert judged.standing.seeds.tolist() == [3, 3, 3, 3, 1]


def test_one_seed_a_plan_decides_nothing():
    bare = Trainings.of([0.0])
    for plans, contents in ((at(0.5, 0.1, seeds=1), MANY[:2]), (at(0.5, 0.1, 0.2, 0.3, seeds=1), MANY[:4])):
        judged = judge_plans(plans, bare, contents)
        assert set(judged.verdicts) == {"NOT DECIDED"}
        assert np.isnan(judged.p_better).all()
        assert np.isnan(judged.more_seeds).all()


def test_a_search_that_may_end_at_any_verdict_must_be_surer():
    plans = at(0.25, 0.0, 0.0, 0.0, seeds=3)
    usual, stopped = (
        judge_plans(plans, Trainings.of([0.0] * 4), MANY[:4], noise=NOISE, until=u) for u in (None, "first")
    )
    assert 0.975 < usual.p_better[0] < 0.995
    assert (usual.verdicts[0], stopped.verdicts[0]) == ("BETTER", "NOT DECIDED")


def shares(found, of):
    return np.mean([of(one) for one in found])


def test_simulated_searches_find_what_there_is():
    """Of 40 searches: found in .70 at N = 10,000, so .70 ± .072, and hardly ever wrong."""
    found = simulation.searches(simulation.World(), 40, seed=1)
    assert shares(found, lambda one: one.right > 0) >= 0.70 - 3 * 0.072
    assert shares(found, lambda one: one.wrong > 0) <= 0.06
    assert max(one.trainings for one in found) == 10


@pytest.mark.parametrize("rough", [{}, {"spike": -20.0}, {"failing": 0.03}])
def test_simulated_searches_claim_little_where_nothing_is_better(rough):
    """At .045 of 40 searches: .045 ± .033, and three of these above."""
    found = simulation.searches(simulation.World(effect=0.0, **rough), 40, seed=2)
    assert shares(found, lambda one: one.wrong > 0) <= 0.045 + 3 * 0.033


def test_simulated_intervals_hold_the_truth():
    """At .95 of 100 reports of 9 intervals that share a reference: ± .012."""
    found = simulation.coverage(400, 0.005, 3, 10, 100, np.random.default_rng(3))
    assert found.mean() == pytest.approx(0.945, abs=3 * 0.012)


def test_simulated_power_is_the_predicted_one():
    """At .80 of 200 reports: ± .028."""
    found = simulation.simulated_power(10_000, 3, 200, np.random.default_rng(4))
    assert found.mean() == pytest.approx(0.80, abs=3 * 0.028)


def test_simulated_forecasts():
    """At .93 of 100 pairs: ± .026."""
    found = simulation.forecast_coverage(
        100, np.random.default_rng(5), windows=1440, horizon=24, hours=24, seed_sd=0.1
    )  # fmt: skip
    assert found.mean() == pytest.approx(0.93, abs=3 * 0.026)


def test_a_plan_is_worse_only_if_its_own_interval_says_so():
    """The model alone would put the fourth plan far below a bare backbone that it takes for lucky."""
    bare = Trainings.of([0.0] * 3)
    plans = at(-0.30, -0.31, -0.32, -0.05, -0.33, seeds=3)
    judged = judge_plans(plans, bare, MANY, noise=NOISE)
    assert judged.pairs[3].low < 0 < judged.pairs[3].high
    assert judged.verdicts == ("WORSE", "WORSE", "WORSE", "NOT DECIDED", "WORSE")
