"""Who is trained next: cases worked out from the rules."""

import numpy as np
import pytest

from nasbench.evidence.noise import Noise
from nasbench.evidence.race import BUDGET, Step, race, sureness
from nasbench.evidence.standing import Standing

CONTENTS = [[("stage1", "se")], [("stage1", "eca")], [("stage1", "sk")], [("stage1", "cbam")], [("stage1", "gct")]]
GAINS = (0.2, 1.0, 0.6, -0.4, -9.0)
"""Of five plans. The last one is far below, at a standard deviation between seeds of 0.5."""


def seen(difference=GAINS, seeds=(1, 1, 1, 1, 1), bare_seeds=3):
    return Standing(np.array(difference, dtype=float), np.array(seeds), bare_seeds, Noise(0.25, 12))


def after(seeds=(1, 1, 1, 1, 1), bare_seeds=3, difference=GAINS, **more):
    return race(seen(difference, seeds, bare_seeds), CONTENTS, **{"spent": 2, **more})


def test_the_bare_backbone_comes_first():
    view = after(bare_seeds=2)
    assert view.next.plan is None
    assert "bare backbone" in view.next.reason
    assert after(bare_seeds=2, most_seeds=2).next.plan is not None  # no plan gets more, nor does the bare backbone


def test_the_plan_of_largest_posterior_mean_is_next():
    view = after()
    assert view.next.plan == 1
    assert view.states == ("open", "open", "open", "open", "left out")
    assert view.ended == ""


def test_the_bare_backbone_keeps_more_seeds_than_the_best_plan():
    assert after(seeds=(1, 3, 1, 1, 1), difference=(0.2, 0.7, 0.6, -0.4, -9.0)).next.plan is None
    assert after(seeds=(1, 3, 1, 1, 1), difference=(0.2, 0.7, 0.6, -0.4, -9.0), bare_seeds=4).next.plan == 1


def test_a_plan_is_called_on_three_seeds_and_makes_room_for_the_next():
    two, three = (after(seeds=(1, n, 1, 1, 1), bare_seeds=9, difference=(0.2, 2.0, 0.6, -0.4, -9.0)) for n in (2, 3))
    assert two.posterior.better[1] > 0.975
    assert (two.states[1], two.next.plan) == ("open", 1)
    assert (three.states[1], three.next.plan) == ("called", 2)


def test_a_plan_that_breaks_a_bound_leaves_the_race_and_is_not_called():
    seeds, difference, refused = (1, 3, 1, 1, 1), (0.2, 2.0, 0.6, -0.4, -9.0), (False, True, False, False, False)
    view = after(seeds=seeds, bare_seeds=9, difference=difference, infeasible=refused, until="first")
    assert view.states[1] == "infeasible"
    assert view.next.plan == 2, "the first BETTER plan would end the race, but this one is no answer"
    assert after(seeds=seeds, bare_seeds=9, difference=difference, until="first").next is None


def test_a_plan_below_the_bare_backbone_is_dropped_on_two_seeds_and_may_return():
    dropped = after(seeds=(1, 1, 1, 2, 1))
    assert dropped.states[3] == "dropped"
    assert after(seeds=(1, 1, 1, 1, 1)).states[3] == "open"
    assert after(seeds=(1, 1, 1, 2, 1), difference=(0.9, 1.0, 0.9, 0.8, -9.0)).states[3] == "open"


def test_a_plan_gets_at_most_so_many_seeds():
    view = after(seeds=(1, 3, 1, 1, 1), bare_seeds=4, difference=(0.2, 0.7, 0.6, -0.4, -9.0), most_seeds=3)
    assert view.states[1] == "at most seeds"
    assert view.next.plan == 2
    assert after(most_seeds=1).next is None


def test_plans_on_the_front_get_a_second_seed_first_from_half_the_budget():
    assert after(front=[3, 0, 1]).next == Step(3, "a second seed for a plan on the front")
    assert after(front=[3, 0, 1], seeds=(1, 1, 1, 2, 1)).next.plan == 0
    assert after(front=[3, 0, 1], seeds=(2, 1, 1, 2, 1), budget=4, spent=3).next.plan == 1  # as the best one
    assert after(front=[3, 0, 2], seeds=(2, 1, 1, 2, 1), budget=5, spent=3).next.plan == 1  # not 2: beyond the half
    assert after(front=[4]).next.plan == 1  # far below: no verdict but WORSE can come of it


def test_the_race_ends():
    spent = after(spent=BUDGET)
    assert (spent.next, spent.ended) == (None, "the 10 further trainings are spent")
    nobody = after(seeds=(3, 3, 3, 2, 1), bare_seeds=9, difference=(2.0, 2.5, 2.0, -2.0, -9.0))
    assert nobody.states == ("called", "called", "called", "dropped", "left out")
    assert (nobody.next, nobody.ended) == (None, "no plan is open any more")
    assert after(spent=0, budget=0).next is None


def test_until_a_verdict():
    """It asks for more certainty, has a larger budget, and `first` ends it at the first plan that is called."""
    state = {"seeds": (1, 3, 1, 1, 1), "bare_seeds": 9, "difference": (0.2, 2.0, 0.6, -0.4, -9.0)}
    assert after(**state, until="decided", spent=15).next.plan == 2
    assert after(**state, until="decided", spent=20).ended == "the 20 further trainings are spent"
    first = after(**state, until="first")
    assert (first.next, first.ended) == (None, "a plan is called BETTER")
    between = {**state, "difference": (0.2, 1.2, 0.6, -0.4, -9.0)}
    chance = after(**between).posterior.better[1]
    assert sureness() < chance < sureness("first")
    assert after(**between).states[1] == "called"
    assert after(**between, until="first").states[1] == "open"


def test_running_trainings_count_as_if_they_returned_what_is_believed():
    """One of the best plan is running: as if done, the bare backbone has three seeds to its two, so it goes on."""
    assert after(running=[1]).next.plan in (1, 2)
    assert after(running=[1, 1]).next.plan is None  # three seeds each
    assert after(running=[1, 1, None]).next.plan is not None
    assert after(bare_seeds=1, running=[None, None]).next.plan == 1
    assert after(front=[3, 0], running=[3]).next.plan == 0
    assert after(running=[1]).states[1] == "open"  # states tell what is finished


def test_a_plan_that_fails_twice_gets_no_further_training():
    view = after(failures=[0, 2, 1, 0, 0])
    assert view.states[1] == "failed"
    assert view.next.plan == 2
    assert after(difference=(0.2, np.nan, 0.6, -0.4, -9.0), seeds=(1, 0, 1, 1, 1)).states[1] == "failed"


def test_without_noise_there_is_no_race():
    standing = Standing(np.array([0.1, 0.2, 0.3, 0.1, 0.2]), np.ones(5, dtype=int), 3, Noise(np.nan, 0))
    view = race(standing, CONTENTS, spent=2)
    assert (view.next, view.ended, view.posterior) == (None, "no plan has two seeds", None)


@pytest.mark.parametrize("running", [(), (1,)])
def test_the_same_standing_gives_the_same_step(running):
    assert after(running=running).next == after(running=running).next
