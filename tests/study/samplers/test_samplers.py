"""Samplers: the model and the acquisition against hand-worked values, then what each sampler promises of its plans."""

import math
import random

import moocore
import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

import nasbench as nb
from nasbench.backbones.slot_cache import RecordedSlot
from nasbench.errors import PlanError, UnknownNameError
from nasbench.library.plan import Plan
from nasbench.runs.settings import SAMPLERS
from nasbench.runs.storage import quiet
from nasbench.spaces import Space
from nasbench.study.evaluators.base import Evaluator
from nasbench.study.samplers import _MAKERS, Knowledge, initial_plans, make_sampler
from nasbench.study.samplers.gaussian import Hyper, Points, fit, negative_log_posterior
from nasbench.study.samplers.grid import strided
from nasbench.study.samplers.history import read_history
from nasbench.study.samplers.improvement import expected_improvement, nondominated_boxes
from nasbench.study.samplers.knowledge import known_before
from nasbench.study.samplers.surrogate import Surrogate, clipped

OURS = ("auto", "grid", "local")
VARIANTS = ("se", "eca", "dual_pool", "cbam", "coord_attention", "triplet_attention")
DIRECTIONS = {"accuracy": "maximize", "cost": "minimize"}


def resolved(slots=4, **space):
    written = {"variants": VARIANTS, "slots": ["stage*"], **space}
    there = [RecordedSlot(name=f"stage{i + 1}", channels=32, size=(8, 8), layout="NCHW") for i in range(slots)]
    return Space.from_dict(written).resolve(there)


def twelve():
    """3 choices at one slot, 4 at the other."""
    override = [{"slots": ["stage2"], "variants": ["se", "eca", "dual_pool"]}]
    return resolved(2, variants=["se", "eca"], overrides=override)


def additive(space, seed):
    """A metric and a cost that are sums over the slots: (accuracy, cost) by plan."""
    rng = np.random.default_rng(seed)
    gain = {(s.slot, v): rng.normal(0.3, 0.8) for s in space.slots for v in s.variants}
    cost = {(s.slot, v): float(np.exp(rng.normal())) for s in space.slots for v in s.variants}
    return {
        plan: (
            1 / (1 + math.exp(-sum(gain[at] for at in plan.items()) / 3)),
            20 + sum(cost[at] for at in plan.items()),
        )
        for plan in space
    }


def knowledge_of(space, rows, *, seed=0, known=True, **more):
    return Knowledge(
        space, DIRECTIONS, known=(lambda p: {"cost": rows[p][1]}) if known else (lambda p: {}), seed=seed, **more
    )


def new_study(directions=DIRECTIONS):
    with quiet():
        return optuna.create_study(directions=list(directions.values()))


def ask(study, name, knowledge):
    number = len(study.get_trials(deepcopy=False))
    space = knowledge.space.parameters
    with quiet():
        study.sampler = make_sampler(name, seed=knowledge.seed, number=number, knowledge=knowledge)
        trial = study.ask({k: optuna.distributions.CategoricalDistribution(v) for k, v in space.items()})
    return trial, knowledge.space.plan(trial.params)


def propose(study, name, knowledge, rows, count, tell=None):
    """Ask and tell `count` times; return the plans."""
    plans = []
    for _ in range(count):
        trial, plan = ask(study, name, knowledge)
        plans.append(plan)
        values = (tell or rows.__getitem__)(plan)
        state = optuna.trial.TrialState.FAIL if values is None else None
        trial.set_user_attr("evaluation", {"plan": plan.text})
        study.tell(trial.number, values, state=state)
    return plans


def share_of_front(rows, plans):
    """Hypervolume of plans over that of all rows, accuracy and log cost each scaled to the range of all rows."""

    def points(some):
        return np.array([(-accuracy, math.log(cost)) for accuracy, cost in some])

    every = points(rows.values())
    low, high = every.min(axis=0), every.max(axis=0)
    volume = [moocore.hypervolume((points(some) - low) / (high - low), ref=[1.0, 1.0])
              for some in ([rows[p] for p in plans], rows.values())]  # fmt: skip
    return volume[0] / volume[1]


# -- the model -----------------------------------------------------------------------------------------------------


def test_posterior_on_a_hand_worked_case():
    """K = xx' + I = [[2, -1], [-1, 2]]; at x = 2: mean (2, -2) K⁻¹ (1, -1)' = 4/3, variance 4 - 8/3 = 4/3."""
    hyper = Hyper((1.0,), interaction=1e-12, length=1.0, noise=1.0)
    model = fit([np.array([[1.0], [-1.0]])], np.array([1.0, -1.0]), hyper, optimise=False)
    mean, deviation = model.predict([np.array([[2.0], [0.0]])])
    assert mean == pytest.approx([4 / 3, 0.0], abs=1e-6)
    assert deviation**2 == pytest.approx([4 / 3, 0.0], abs=1e-6)


def test_posterior_is_in_the_targets_own_units():
    hyper = Hyper((1.0,), interaction=0.3, length=1.0, noise=0.5)
    x, y, new = np.array([[1.0], [-1.0], [0.5]]), np.array([1.0, -1.0, 2.0]), np.array([[2.0]])
    mean, deviation = fit([x], y, hyper, optimise=False).predict([new])
    moved_mean, moved_deviation = fit([x], 5 + 10 * y, hyper, optimise=False).predict([new])
    assert moved_mean == pytest.approx(5 + 10 * mean)
    assert moved_deviation == pytest.approx(10 * deviation)


def test_interactions_are_matern():
    """With no linear part, one point at squared distance d² (in units of 2 a block): k = (1 + r + r²/3) e^-r."""
    hyper = Hyper((1e-12,), interaction=1.0, length=0.7, noise=1e-9)
    model = fit([np.array([[0.0], [50.0]])], np.array([1.0, -1.0]), hyper, optimise=False)
    mean, _ = model.predict([np.array([[1.0]])])
    r = math.sqrt(5 * 0.5) / 0.7
    assert mean == pytest.approx([(1 + r + r * r / 3) * math.exp(-r)], rel=1e-4)


def test_the_gradient_is_that_of_the_value():
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(12, 3)), rng.normal(size=(12, 2))]
    grams = [block @ block.T for block in blocks]
    everything = np.concatenate(blocks, axis=1)
    distance = ((everything[:, None] - everything[None]) ** 2).sum(-1)
    start = Hyper((0.5, 0.2), 0.3, 1.2, 0.1).to_logs()
    at = start + rng.normal(size=start.size) * 0.3
    arguments = (grams, distance, rng.normal(size=12), start)
    _, slope = negative_log_posterior(at, *arguments)
    numeric = approx_fprime(at, lambda logs: negative_log_posterior(logs, *arguments)[0], 1e-6)
    assert slope == pytest.approx(numeric, rel=1e-3, abs=1e-4)


def test_likelihood_finds_the_block_that_matters():
    rng = np.random.default_rng(1)
    matters, idle = rng.normal(size=(60, 2)), rng.normal(size=(60, 2))
    hyper = fit([matters, idle], matters @ [1.0, -1.0] + 0.05 * rng.normal(size=60), Hyper((0.3, 0.3))).hyper
    assert hyper.weights[0] > 10 * hyper.weights[1]
    assert hyper.noise < 0.02


def test_further_points_are_believed():
    hyper = Hyper((1.0,), noise=1e-6)
    x, y = np.array([[1.0], [-1.0]]), np.array([1.0, -1.0])
    model = fit([x], y, hyper, optimise=False)
    extended = model.extended([np.array([[3.0]])], np.array([9.0]))
    mean, deviation = extended.predict([np.array([[3.0], [1.0]])])
    assert mean == pytest.approx([9.0, 1.0], abs=1e-2)
    assert deviation[0] < 0.01 < model.predict([np.array([[3.0]])])[1][0]


@pytest.mark.parametrize("targets", [np.zeros(5), np.full(5, 1e9), np.array([1.0, 1.0, 1.0, 1.0, 5.0])])
def test_constant_and_repeated_points_do_no_harm(targets):
    model = fit([np.ones((5, 2))], targets, Hyper((1.0,), noise=1e-9))
    mean, deviation = model.predict([np.array([[1.0, 1.0], [0.0, 3.0]])])
    assert np.isfinite(mean).all()
    assert np.isfinite(deviation).all()


def test_a_collapsed_training_does_not_hide_the_rest():
    targets = np.array([0.10, 0.11, 0.12, 0.13, 0.14, 9.0])
    assert clipped(targets)[:5].tolist() == targets[:5].tolist()
    assert clipped(targets)[5] < 0.3


# -- expected improvement ------------------------------------------------------------------------------------------

REFERENCE = np.array([2.0, 2.0])
FRONT = np.array([[1.0, 1.0]])


@pytest.mark.parametrize(
    ("point", "gain"),
    [
        ((0.5, 0.0), 2.0),  # [0.5, 2] x [0, 2] is 3, of which the front has 1
        ((1.0, 0.5), 0.5),
        ((1.5, 0.5), 0.25),  # beside the front point: half of a unit square's half
        ((1.0, 1.0), 0.0),
        ((3.0, 0.0), 0.0),  # beyond the reference
    ],
)
def test_a_known_point_gains_the_area_it_adds(point, gain):
    found = expected_improvement(FRONT, REFERENCE, np.array([point]), np.zeros((1, 2)))
    assert found == pytest.approx([gain])


def test_one_normal_objective_on_a_hand_worked_case():
    """At cost 0 beside a front point (1, 1): below 1 each unit of the metric gains 2, between 1 and 2 it gains 1.

    E = 2 E[(1 - Y)+] + E[(2 - max(Y, 1))+] with Y ~ N(1, 1): the first is φ(0), the second is Ψ(1) - Ψ(0) of the
    standard normal with Ψ(z) = z Φ(z) + φ(z).
    """
    phi0, phi1, cdf1 = 0.3989422804, 0.2419707245, 0.8413447461
    expected = 2 * phi0 + (cdf1 + phi1 - phi0)
    found = expected_improvement(FRONT, REFERENCE, np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))
    assert found == pytest.approx([expected], rel=1e-8)


@pytest.mark.parametrize("modelled", [(0,), (0, 1), (0, 1, 2)])
def test_it_agrees_with_monte_carlo(modelled):
    rng = np.random.default_rng(len(modelled))
    front, reference = rng.random((7, 3)), np.full(3, 1.1)
    mean, deviation = rng.random((4, 3)), np.zeros((4, 3))
    deviation[:, modelled] = rng.uniform(0.05, 0.4, (4, len(modelled)))
    drawn = rng.normal(size=(4000, 4, 3)) * deviation + mean
    had = moocore.hypervolume(front, ref=reference)
    gains = [[moocore.hypervolume(np.vstack([front, one]), ref=reference) - had for one in each] for each in drawn]
    error = np.std(gains, axis=0) / math.sqrt(len(drawn))
    found = expected_improvement(front, reference, mean, deviation)
    assert (abs(found - np.mean(gains, axis=0)) < 4 * error + 1e-9).all()


@given(st.integers(2, 4), st.integers(0, 12), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_boxes_fill_what_the_front_leaves(axes, count, seed):
    """The boxes and what the front dominates, in the unit cube, add up to 1, also with ties and dominated points."""
    front = np.random.default_rng(seed).integers(0, 6, (count, axes)) / 6
    lower, upper = nondominated_boxes(front, np.ones(axes))
    volume = np.prod(upper - np.maximum(lower, 0.0), axis=1).sum()
    taken = moocore.hypervolume(front, ref=np.ones(axes)) if count else 0.0
    assert volume + taken == pytest.approx(1.0)
    assert (upper > lower).all()


# -- what a sampler promises ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_it_meets_every_plan_once_and_then_still_answers(name):
    space = twelve()
    rows = additive(space, 0)
    study, knowledge = new_study(), knowledge_of(space, rows)
    plans = propose(study, name, knowledge, rows, 12)
    assert set(plans) == set(space)
    assert len(plans) == space.count == 12
    assert ask(study, name, knowledge)[1] in space


def test_a_setting_names_every_sampler_there_is():
    assert tuple(_MAKERS) == SAMPLERS


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_reaches_all_plans_of_a_small_space(name, tmp_path):
    space = {"variants": ["se", "eca"], "slots": ["stage1", "stage2"],
             "overrides": [{"slots": ["stage2"], "variants": ["se", "eca", "dual_pool"]}]}  # fmt: skip
    run = nb.search(
        space, backbone="test_resnet", evaluate=lambda plan: {"accuracy": len(str(plan)) % 7, "cost": len(plan)},
        objectives=DIRECTIONS, trials=50, seeds=1, sampler=name, out=tmp_path / "run",
    )  # fmt: skip
    assert run.trials()["plan_hash"].nunique() == len(run.trials()) == 12


@pytest.mark.parametrize("name", OURS)
def test_the_same_seed_proposes_the_same_also_after_a_restart(name):
    space = resolved(3, compositions=["none", "a", "a >> b"])
    rows = additive_texts(space)
    whole = propose(new_study(), name, knowledge_of(space, rows), rows, 14)
    study = new_study()
    begun = propose(study, name, knowledge_of(space, rows), rows, 7)
    resumed = propose(study, name, knowledge_of(space, rows), rows, 7)  # what was remembered is gone
    assert begun + resumed == whole
    assert propose(new_study(), name, knowledge_of(space, rows, seed=1), rows, 14) != whole


class additive_texts(dict):  # noqa: N801  (it stands where a dict of rows stands)
    """Rows worked out when they are asked for, for spaces that are not to be listed."""

    def __init__(self, space):
        super().__init__()

    def __missing__(self, plan):
        draw = random.Random(plan.text)
        return 1 / (1 + math.exp(-len(plan) - draw.random())), 10.0 + len(plan.text)


@pytest.mark.parametrize("name", OURS)
def test_no_plan_that_breaks_a_known_constraint_while_others_are_left(name):
    space = twelve()
    rows = additive(space, 3)
    limit = sorted(cost for _, cost in rows.values())[7]
    study, knowledge = new_study(), knowledge_of(space, rows, breaks=lambda known: known["cost"] > limit)
    plans = propose(study, name, knowledge, rows, 12)
    assert all(rows[plan][1] <= limit for plan in plans[:8])
    assert all(rows[plan][1] > limit for plan in plans[8:])


@pytest.mark.parametrize("name", OURS)
def test_plans_that_cannot_be_built_come_last(name):
    space = twelve()
    rows = additive(space, 3)

    def known(plan):
        return None if "eca" in plan.text else {"cost": rows[plan][1]}

    knowledge = Knowledge(space, DIRECTIONS, known=known)
    plans = propose(new_study(), name, knowledge, rows, 12, tell=lambda p: None if "eca" in p.text else rows[p])
    assert not any("eca" in plan.text for plan in plans[:6])
    assert len(set(plans)) == 12


@pytest.mark.parametrize("name", OURS)
def test_workers_are_given_different_plans(name):
    space = twelve()
    rows = additive(space, 0)
    study, knowledge = new_study(), knowledge_of(space, rows)
    propose(study, name, knowledge, rows, 5)
    asked = [ask(study, name, knowledge)[1] for _ in range(7)]  # none of them told
    assert len(set(asked)) == 7


def test_processes_that_share_points_predict_as_those_that_do_not():
    """What the points remember is of one set of new points. Two sets in turn must not be mixed up."""
    rng = np.random.default_rng(0)
    x, targets = [rng.normal(size=(12, 3)), rng.normal(size=(12, 2))], rng.normal(size=(2, 12))
    hypers = [Hyper((0.5, 0.2), length=0.7), Hyper((0.1, 0.9), interaction=0.6)]
    points, (new, other) = Points(x), ([rng.normal(size=(5, 3)), rng.normal(size=(5, 2))] for _ in range(2))
    shared = [fit(points, y, hyper, optimise=False) for y, hyper in zip(targets, hypers, strict=True)]
    alone = [fit(x, y, hyper, optimise=False) for y, hyper in zip(targets, hypers, strict=True)]
    for asked in (new, other, new):
        for one, same in zip(shared, alone, strict=True):
            assert np.allclose(one.predict(asked), same.predict(asked), rtol=0, atol=1e-12)
            assert np.array_equal(one.mean(asked), one.predict(asked)[0])
    more = [one.extended(other, np.arange(5.0)).predict(new) for one in shared]
    apart = [one.extended(other, np.arange(5.0)).predict(new) for one in alone]
    assert np.allclose(more, apart, rtol=0, atol=1e-12)
    assert points.with_more(other) is points.with_more(other)


def test_running_plans_are_believed_to_give_what_is_predicted():
    space = resolved(3)
    rows = additive(space, 4)
    study, knowledge = new_study(), knowledge_of(space, rows)
    propose(study, "auto", knowledge, rows, 12)
    trial, plan = ask(study, "auto", knowledge)
    frozen = study.get_trials()[-1]
    alone = Surrogate(knowledge, read_history(knowledge, study, frozen))
    frozen.number += 1  # the next proposal, while this one runs
    beside = Surrogate(knowledge, read_history(knowledge, study, frozen))
    assert beside.gains([plan])[0] < 0.5 * alone.gains([plan])[0]
    assert trial.number == 12


@pytest.mark.parametrize("name", OURS)
def test_the_space_of_a_quota_is_kept(name):
    space = resolved(4, compositions=["none", "a", "a >> b"], quotas=[{"max": 3}])
    assert space.count > 1000  # larger than the spaces that auto lists
    rows = additive_texts(space)
    plans = propose(new_study(), name, knowledge_of(space, rows), rows, 15)
    assert all(plan in space for plan in plans)
    assert len(set(plans)) == 15


def test_neighbours_are_of_the_space_and_differ_in_one_slot():
    space = resolved(3, quotas=[{"max": 2}])
    knowledge = Knowledge(space, DIRECTIONS)
    plan = Plan.of({"stage1": "se", "stage2": "eca"})
    near = knowledge.near(plan, random.Random(0), 500)
    assert len(near) == len(set(near)) == 12  # 6 others in each of two slots; the third must stay empty
    assert all(one in space for one in near)
    assert all(len({*one.items()} ^ {*plan.items()}) <= 2 for one in near)


def test_costs_are_on_a_log_scale_where_they_can_be():
    space = twelve()
    plan = Plan.of({"stage1": "se"})
    names = {"accuracy": "maximize", "cost": "minimize", "speed": "maximize", "change": "minimize", "macs": "minimize"}
    known = {"cost": 100.0, "speed": 10.0, "change": -3.0}
    knowledge = Knowledge(space, names, known=lambda _: known)
    assert knowledge.known_names == ("cost", "speed", "change")
    assert knowledge.costs(plan) == pytest.approx([math.log(100), -math.log(10), -3.0])
    scaled = knowledge.scaled(np.array([[0.9, 100.0, 10.0, -3.0, 1e6]]))
    assert scaled == pytest.approx(np.array([[-0.9, math.log(100), -math.log(10), -3.0, math.log(1e6)]]))


def test_a_space_of_a_billion_plans_is_never_listed():
    space = resolved(4, compositions=["none", "a", "a >> b", "a + b", "gate(a, b)"], variants=[*VARIANTS, "sk", "muse"])
    assert space.count > 10**8
    rows = additive_texts(space)
    for name in OURS:
        plans = propose(new_study(), name, knowledge_of(space, rows), rows, 8)
        assert len(set(plans)) == 8


@given(st.integers(1, 300), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_walk_of_the_grid_meets_each_number_once(count, seed):
    assert sorted(strided(count, random.Random(seed))) == list(range(count))


def test_an_unknown_sampler_is_named():
    with pytest.raises(UnknownNameError, match="tpe"):
        make_sampler("tpee", seed=0, number=0, knowledge=Knowledge(twelve(), DIRECTIONS))


# -- what auto is for ----------------------------------------------------------------------------------------------


def evaluations_to(rows, plans, share):
    return next((n for n in range(1, len(plans) + 1) if share_of_front(rows, plans[:n]) >= share), len(plans) + 1)


def test_auto_needs_a_third_of_what_random_needs():
    """On an additive table of 2,401 plans; random draws without repeats, which is kinder to it than Optuna's own."""
    space = resolved(4)
    needed = {"auto": [], "grid": []}
    for seed in range(3):
        rows = additive(space, seed)
        for name, count in (("auto", 40), ("grid", 120)):
            plans = propose(new_study(), name, knowledge_of(space, rows, seed=seed), rows, count)
            needed[name].append(evaluations_to(rows, plans, 0.95))
    assert np.median(needed["auto"]) <= 40
    assert np.median(needed["auto"]) * 3 <= np.median(needed["grid"])


def test_auto_learns_costs_that_nobody_told_it():
    space = resolved(3)
    rows = additive(space, 5)
    shares = [
        share_of_front(rows, propose(new_study(), name, knowledge_of(space, rows, known=False), rows, 35))
        for name in ("auto", "grid")
    ]
    assert shares[0] > max(0.95, shares[1])


def test_turning_an_objective_round_changes_nothing():
    space = resolved(3)
    rows = additive(space, 6)
    plans = propose(new_study(), "auto", knowledge_of(space, rows), rows, 15)
    directions = {"error": "minimize", "cost": "minimize"}
    turned = Knowledge(space, directions, known=lambda p: {"cost": rows[p][1]})
    mirrored = propose(new_study(directions), "auto", turned, rows, 15, tell=lambda p: (-rows[p][0], rows[p][1]))
    assert mirrored == plans


def test_units_of_metric_and_cost_do_not_matter():
    """Costs are on a log scale, metrics are standardised."""
    space = resolved(3)
    rows = additive(space, 6)
    scaled = {plan: (1024 * accuracy - 512, 4096 * cost) for plan, (accuracy, cost) in rows.items()}
    plans = propose(new_study(), "auto", knowledge_of(space, rows), rows, 15)
    assert propose(new_study(), "auto", knowledge_of(space, scaled), scaled, 15) == plans


def test_what_always_fails_is_left_alone():
    space = resolved(4)
    rows = additive(space, 7)

    def fragile(plan):
        return None if "cbam" in plan.text else rows[plan]

    plans = propose(new_study(), "auto", knowledge_of(space, rows), rows, 24, tell=fragile)
    assert 1 <= sum("cbam" in plan.text for plan in plans) <= 5  # of plans drawn at random 11 have it


def test_a_constant_metric_is_no_trouble():
    space = twelve()
    rows = {plan: (0.5, 10.0 + len(plan)) for plan in space}
    plans = propose(new_study(), "auto", knowledge_of(space, rows), rows, 12)
    assert len(set(plans)) == 12


def test_a_repeat_told_again_counts_once():
    space = twelve()
    rows = additive(space, 0)
    study, knowledge = new_study(), knowledge_of(space, rows)
    plans = propose(study, "grid", knowledge, rows, 3)
    study.enqueue_trial(space.params(plans[0]))
    propose(study, "auto", knowledge, rows, 1)
    history = read_history(knowledge, study, optuna.trial.create_trial(values=[0, 0]))
    assert list(history.plans) == plans


# -- the first plans -----------------------------------------------------------------------------------------------


def test_the_first_plans_are_the_bare_backbone_and_single_modules_spread_cheap_first():
    space = resolved(3, variants=["se", "eca"])
    price = {"se": 2.0, "eca": 1.0}

    def known(plan):
        return {"macs": 10 + sum(price[e.canonical()] for e in plan.values())}

    plans = initial_plans(space, known, 100)
    assert plans[0].is_bare
    assert len(plans) == len(set(plans)) == 7
    assert all(len(plan) == 1 for plan in plans[1:])
    texts = [plan.text for plan in plans[1:4]]  # of two modules and three slots each in turn
    assert texts == ['{"stage1": "eca"}', '{"stage2": "se"}', '{"stage3": "eca"}']
    assert initial_plans(space, known, 3) == plans[:3]


def test_the_first_plans_are_of_the_space():
    space = resolved(3, variants=["se", "eca"], quotas=[{"min": 2}])
    assert [plan.is_bare for plan in initial_plans(space, lambda plan: {})] == [True]
    assert initial_plans(resolved(2, compositions=["a >> b"]), lambda plan: {}) == []


def test_first_plans_that_cannot_be_built_are_left_out():
    plans = initial_plans(twelve(), lambda plan: None if "se" in plan.text else {})
    assert plans
    assert not any("se" in plan.text for plan in plans)


def test_what_an_evaluator_knows_is_asked_of_it():
    class Silent(Evaluator):
        def find(self, request, found):
            raise NotImplementedError

    class Knows(Silent):
        def known(self, plan):
            if plan.is_bare:
                raise PlanError("no")
            return {"macs": 1}

    assert known_before(Knows())(Plan({})) is None
    assert known_before(Knows())(Plan.of({"stage1": "se"})) == {"macs": 1}
    assert known_before(Silent())(Plan({})) == {}
