"""Successive halving: rungs, who goes on, and why the others stop."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from nasbench.errors import InputError
from nasbench.library.plan import Plan
from nasbench.study.phases.ladder import Ladder, Promotion, Reading, places, promotable, starts_slowly, stops


def at(rung, **values):
    return [Reading(plan, rung, value) for plan, value in values.items()]


@pytest.mark.parametrize(
    ("full", "options", "epochs"),
    [
        (27, {}, (1, 3, 9, 27)),
        (27, {"minimum": 2}, (3, 9, 27)),
        (10, {"eta": 2}, (1, 2, 5, 10)),
        (10, {"eta": 3, "minimum": 3}, (3, 10)),
        (1, {}, (1,)),
        (2, {"eta": 2}, (1, 2)),
    ],
)
def test_rungs(full, options, epochs):
    assert Ladder.of(full, **options).epochs == epochs


@pytest.mark.parametrize("options", [{"eta": 1}, {"minimum": 0}, {"minimum": 10}, {"slow_minimum": 10}])
def test_rungs_that_cannot_be(options):
    with pytest.raises(InputError):
        Ladder.of(9, **options)


def test_the_price_of_training_from_scratch():
    assert Ladder.of(27).epochs == (1, 3, 9, 27)
    assert all(sum(Ladder.of(n).epochs) < 1.7 * n for n in range(4, 200))


def test_plans_that_start_as_identity_wait():
    """`channel_attention` begins with a scale of 0; behind gates every plan begins so."""
    ladder = Ladder.of(27)
    plain, slow = Plan.of({"stage1": "se"}), Plan.of({"stage1": "se", "stage2": "eca >> channel_attention"})
    assert not starts_slowly(plain, identity_init=False)
    assert starts_slowly(slow, identity_init=False)
    assert starts_slowly(plain, identity_init=True)
    assert not starts_slowly(Plan({}), identity_init=True)
    assert [ladder.entry(plan, identity_init=False) for plan in (plain, slow, Plan({}))] == [0, 2, 3]
    assert ladder.entry(plain, identity_init=True) == 2
    assert Ladder.of(27, slow_minimum=2).entry(slow, identity_init=False) == 1
    assert Ladder.of(1).entry(slow, identity_init=False) == 0
    assert Ladder.of(4).epochs == (1, 4)
    assert Ladder.of(4).entry(slow, identity_init=False) == 1  # a quarter of the budget is too little to judge by
    assert Ladder.of(10).entry(slow, identity_init=False) == 1  # 3 of 10 epochs suffice


def test_a_fusion_whose_weights_sum_to_one_is_not_slow():
    assert not starts_slowly(Plan.of({"stage1": "gate(se, eca)"}), identity_init=False)


FRONT = at(
    0, low=(0.0, 4.0), middle=(1.9, 2.1), crowded=(2.0, 2.0), high=(4.0, 0.0), second=(3.0, 3.0), last=(4.0, 4.0)
)


def test_places_by_hand():
    """On the front the ends add 1.1·... each; of the two that lie close together each adds next to nothing."""
    order = places(FRONT)
    assert {place.plan for place in order[:2]} == {"low", "high"}
    assert {place.plan for place in order[2:4]} == {"middle", "crowded"}
    assert [place.plan for place in order[4:]] == ["second", "last"]
    assert [place.rank for place in order] == [1, 1, 1, 1, 2, 3]
    assert [place.place for place in order] == [1, 2, 3, 4, 5, 6]
    assert {place.of for place in order} == {6}


def test_units_do_not_change_places():
    scaled = [Reading(r.plan, 0, (r.values[0] * 1e6 - 5, r.values[1] * 1e-3)) for r in FRONT]
    assert places(scaled) == places(FRONT)


def test_why_plans_stop():
    """Six plans at rung 1, two of them promoted: the reason of the others counts the one that broke for nothing."""
    ladder = Ladder.of(9)
    reasons = stops([*FRONT, *at(0, broken=None), *at(1, low=(9.0, 9.0), high=(9.0, 9.0))], ladder)
    assert reasons["last"] == "stopped at rung 1 of 3 (1 of 9 epochs): place 6 of 6, rank 3; the best 2 are promoted"
    assert {"middle", "crowded", "second", "last"} <= set(reasons)
    assert "broken" not in reasons


def test_asynchronous_by_hand():
    """eta 2 on rungs 1, 2, 4: one of two goes on; the higher rung first; nobody twice."""
    ladder = Ladder.of(4, eta=2)
    assert ladder.epochs == (1, 2, 4)
    one = at(0, a=(1.0,))
    assert promotable(one, ladder) == []
    assert promotable(one, ladder, finish=True) == [Promotion("a", 1)]
    two = [*one, *at(0, b=(2.0,))]
    assert promotable(two, ladder) == [Promotion("a", 1)]
    running = [*two, *at(1, a=None)]
    assert promotable(running, ladder) == []
    more = [*running, *at(0, c=(0.5,))]
    assert promotable(more, ladder) == [Promotion("c", 1)]  # the best of three, though a went on before
    assert promotable([*more, *at(1, c=(3.0,))], ladder) == []
    both = [*two, *at(0, c=(0.5,)), *at(1, a=(4.0,), c=(3.0,))]
    assert promotable(both, ladder) == [Promotion("c", 2)]
    done = [*both, *at(2, c=(1.0,))]
    assert promotable(done, ladder, finish=True) == []
    assert stops(done, ladder) == {
        "b": "stopped at rung 1 of 3 (1 of 4 epochs): place 3 of 3, rank 3; the best is promoted",
        "a": "stopped at rung 2 of 3 (2 of 4 epochs): place 2 of 2, rank 2; the best is promoted",
    }


def test_too_few_to_decide_is_said():
    assert stops(at(0, a=(1.0,)), Ladder.of(4, eta=2), finish=False)["a"].endswith(
        "fewer than 2 plans have finished this rung"
    )


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40),
    st.sampled_from([2, 3, 4]),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_asynchronous_halving_ends_well(values, eta, workers, rng):
    """With any number of workers that finish in any order: nobody is trained twice at a rung or skips one, at least
    as many stop as the rule says, something is trained in full, and whoever is best in all is."""
    ladder = Ladder.of(eta**2, eta=eta)
    todo = [f"p{i}" for i in range(len(values))]
    known: dict[tuple[str, int], tuple[float, ...] | None] = {}
    running: list[tuple[str, int]] = []
    while True:
        readings = [Reading(plan, rung, value) for (plan, rung), value in known.items()]
        job = next(iter(promotable(readings, ladder, finish=not todo)), None)
        start = (job.plan, job.rung) if job else (todo.pop(0), 0) if todo else None
        if start is not None and len(running) < workers:
            assert start not in known
            assert start[1] == 0 or known[start[0], start[1] - 1] is not None
            known[start] = None
            running.append(start)
        elif start is not None and job is None:
            todo.insert(0, start[0])
        if len(running) == workers or start is None:
            if not running:
                break
            done = running.pop(rng.randrange(len(running)))
            known[done] = values[int(done[0][1:])]
    finished = [Reading(plan, rung, value) for (plan, rung), value in known.items()]
    counts = [sum(r.rung == rung for r in finished) for rung in range(3)]
    assert counts[0] == len(values)
    assert counts[2] >= 1
    full = {r.plan for r in finished if r.rung == 2}
    assert set(stops(finished, ladder)) == {r.plan for r in finished} - full
    best = [f"p{i}" for i, v in enumerate(values) if all(v[0] < w[0] and v[1] < w[1] for w in values if w is not v)]
    assert set(best) <= full


def test_the_best_plan_survives_learning_curves_that_keep_their_order():
    """81 plans on curves that never cross: halving finds the best for a third of the epochs of training all."""
    rng = random.Random(0)
    limits = {f"p{i}": rng.random() for i in range(81)}
    ladder = Ladder.of(27)
    plans, spent = list(limits), 0
    for rung in range(4):
        spent += len(plans) * ladder.epochs[rung]
        readings = [Reading(plan, rung, (limits[plan] + 1 / ladder.epochs[rung],)) for plan in plans]
        if rung < ladder.top:
            plans = [place.plan for place in places(readings)[: len(plans) // ladder.eta]]
    assert min(limits, key=limits.get) in plans
    assert len(plans) == 3
    assert spent == 4 * 81 < 81 * 27 / 3
