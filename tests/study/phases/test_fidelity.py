"""Trials on the ladder: which training comes next, what a resumed search knows, how those end that stop."""

import random

import pandas as pd
import pytest

import nasbench as nb
from nasbench.errors import InputError, RunError
from nasbench.library.plan import Plan
from nasbench.objectives import parse_constraint
from nasbench.runs.evaluation import Evaluation
from nasbench.study.evaluators.asked import AskedEvaluator
from nasbench.study.evaluators.base import Request
from nasbench.study.phases.fidelity import Step, SuccessiveHalving
from nasbench.study.phases.ladder import Ladder

DIRECTIONS = {"accuracy": "maximize", "macs": "minimize"}
PLANS = [Plan.of({"stage1": text}) for text in ("se", "eca", "sk", "mixconv", "caa", "cbam", "dual_pool", "self_gate")]


def answer(plan, epochs):
    """A learning curve whose height is the plan's place in PLANS; all cost the same, twice the bare backbone."""
    texts = [p["stage1"].canonical() for p in PLANS]
    quality = texts.index(plan["stage1"]) if plan else 0
    return {"accuracy": 0.5 + 0.05 * quality - 0.3 / epochs, "macs": 2e6 if plan else 1e6}


EVALUATOR = AskedEvaluator(answer, list(DIRECTIONS))


def evaluated(step):
    plan = Plan.of(step.plan)
    return EVALUATOR.evaluate(Request.of(plan, epochs=step.epochs, before=step.before))


def halving():
    return SuccessiveHalving(Ladder.of(4, eta=2), DIRECTIONS, identity_init=False)


def test_the_evaluator_is_told_how_long():
    short, full = (EVALUATOR.evaluate(Request.of(PLANS[1], epochs=epochs)) for epochs in (1, 4))
    assert (short.fidelity, full.fidelity) == (1, 4)
    assert short.metrics["accuracy"] == pytest.approx(0.25)
    assert full.metrics["accuracy"] == pytest.approx(0.475)
    deaf = AskedEvaluator(lambda plan: {"accuracy": 1.0, "macs": 1.0}, list(DIRECTIONS))
    assert not deaf.takes_epochs
    assert deaf.evaluate(Request.of(PLANS[1], epochs=2)).fidelity == 0


def test_a_search_by_halving():
    """Eight plans at 1 epoch, the best four at 2, the best two at 4; the bare backbone at once in full."""
    books, steps, over = halving(), [], {}

    def run(step):
        steps.append(step)
        if books.add(step.number, evaluation := evaluated(step)) is not None:
            over[step.number] = evaluation

    run(books.start(0, Plan({})))
    assert over[0].fidelity == 4
    for number, plan in enumerate(PLANS, start=1):
        run(books.start(number, plan))
        while (step := books.promote()) is not None:
            run(step)
    while (step := books.promote(finish=True)) is not None:
        run(step)
    assert books.promote(finish=True) is None
    counts = [sum(step.epochs == epochs for step in steps) for epochs in (1, 2, 4)]
    assert counts[0] == 8
    assert counts[1] >= 4
    assert 8 in over  # the best of them, though it came last
    assert over[8].metrics["accuracy"] == pytest.approx(0.5 + 0.35 - 0.075)
    assert [step.before.fidelity for step in steps if step.before] == [s.epochs // 2 for s in steps if s.before]
    ended = dict(books.stopped())
    assert set(ended) | set(over) == set(range(9))
    assert not set(ended) & set(over)
    worst = ended[1]
    assert worst.state == "rejected"
    assert worst.reason.startswith(
        "stopped at rung 1 of 3 (1 of 4 epochs): place 8 of 8, rank 8; the best 4 are promoted"
    )
    assert worst.fidelity == 1
    assert worst.metrics["accuracy"] == pytest.approx(0.2)


def test_a_resumed_search_goes_on_from_its_books():
    books = halving()
    for number, plan in enumerate(PLANS[:4], start=1):
        assert books.add(number, evaluated(books.start(number, plan))) is None
    first = books.promote()
    assert (first.number, first.epochs) == (4, 2)
    books.add(4, evaluated(first))
    again = halving()
    for number in range(1, 5):
        again.restore(number, [e.to_dict() for e in books.rungs(number)])
    assert again.promote() == books.promote() == Step(3, PLANS[2].text, 2, books.rungs(3)[0], is_full=False)
    assert [e.fidelity for e in again.rungs(4)] == [1, 2]
    ended = halving()
    for number in range(1, 5):
        ended.restore(number, [e.to_dict() for e in books.rungs(number)], over=True)
    assert ended.promote(finish=True) is None
    assert ended.stopped() == []
    fifth = ended.start(5, PLANS[4])
    ended.add(5, evaluated(fifth))
    assert ended.promote().number == 5  # the best of five: those that ended count


def test_what_fails_is_over_and_holds_nobody_up():
    books = halving()
    steps = [books.start(number, plan) for number, plan in enumerate(PLANS[:3], start=1)]
    broken = Evaluation(steps[2].plan, "x", 0, 0, "failed", "nan: the loss became nan")
    assert books.add(3, broken) == broken
    assert books.promote() is None  # two are running, one has failed
    for step in steps[:2]:
        books.add(step.number, evaluated(step))
    assert books.promote().number == 2
    assert 3 not in dict(books.stopped())


def test_costs_count_on_a_logarithmic_scale():
    """Three plans of one rank: in decades the cheap one adds most, 0.1·0.825; in MACs the middle one, 0.25·0.8."""
    books = SuccessiveHalving(Ladder.of(9), DIRECTIONS, identity_init=False)
    for number, (accuracy, macs) in enumerate([(0.9, 1e9), (0.3, 2e8), (0.1, 1e5)], start=1):
        step = books.start(number, PLANS[number])
        metrics, costs = {"accuracy": accuracy}, {"macs": macs}
        books.add(number, Evaluation(step.plan, "", 0, 1, "complete", metrics=metrics, costs=costs))
    assert books.promote().number == 3
    assert books.promote() is None


def test_order_of_arrival_does_not_matter():
    numbers = list(range(1, 9))
    ends = []
    for seed in range(3):
        books = halving()
        random.Random(seed).shuffle(numbers)
        steps = {number: books.start(number, PLANS[number - 1]) for number in sorted(numbers)}
        for number in numbers:
            books.add(number, evaluated(steps[number]))
        ends.append([books.promote().number for _ in range(4)])
    assert ends[0] == ends[1] == ends[2] == [8, 7, 6, 5]


SPACE = {"variants": ["se", "eca", "sk", "mixconv", "caa", "cbam"], "slots": ["stage1", "stage2"]}
"""49 plans."""


def learning_curve(plan, epochs):
    """A plan's height is its place among the variants, stage2 counts double; what is longer costs more."""
    height = sum((SPACE["variants"].index(name) + 1) * int(slot[-1]) for slot, name in plan.items())
    return {"accuracy": 0.5 + 0.02 * height - 0.3 / epochs, "macs": 1e6 * (1 + len(plan))}


def halved(out, evaluate=learning_curve, **more):
    options = {"trials": 20, "halving": 2, "training": {"epochs": 4}, "sampler": "random", "objectives": DIRECTIONS}
    return nb.search(SPACE, backbone="test_resnet", evaluate=evaluate, out=out, **{**options, **more})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return halved(tmp_path_factory.mktemp("halving") / "r")


def test_a_search_ends_with_what_was_trained_in_full_on_the_front(run):
    trials = run.trials()
    assert len(trials) == 20
    assert dict(trials.groupby("state")["fidelity"].max()) == {"complete": 4, "rejected": 2}
    assert (trials[trials["state"] == "complete"]["fidelity"] == 4).all()
    stopped = trials[trials["state"] == "rejected"]
    assert stopped["reason"].str.match(r"stopped at rung [12] of 3 \([12] of 4 epochs\): place \d+ of \d+").all()
    assert 3 <= (trials["state"] == "complete").sum() <= 8
    assert set(run.front()["number"]) <= set(trials[trials["state"] == "complete"]["number"])
    assert "{}" in set(run.front()["plan"])


@pytest.mark.parametrize("calls", [1, 9, 24])
def test_an_interrupted_search_by_halving_goes_on_as_if_nothing_had_happened(run, calls, tmp_path):
    left = [calls]

    def dying(plan, epochs):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return learning_curve(plan, epochs)

    with pytest.raises(KeyboardInterrupt):
        halved(tmp_path / "r", dying)
    again = halved(tmp_path / "r")
    columns = ["number", "state", "reason", "plan", "fidelity", "accuracy"]
    pd.testing.assert_frame_equal(again.trials()[columns], run.trials()[columns])


def test_more_trials_go_on_from_a_finished_search_by_halving(tmp_path):
    halved(tmp_path / "r", trials=12, sampler="auto")
    trials = halved(tmp_path / "r", sampler="auto").trials()
    assert len(trials) == trials["plan"].nunique() == 20
    assert set(trials["state"]) == {"complete", "rejected"}


def test_the_default_sampler_learns_from_short_trainings(tmp_path):
    """Of 49 plans 18 are looked at; the dearest is the best, and random search meets it in one of three tries."""
    best = [halved(tmp_path / str(seed), sampler="auto", seed=seed, trials=18).front()["accuracy"].max()
            for seed in range(3)]  # fmt: skip
    assert min(best) > 0.5 + 0.02 * 16 - 0.3 / 4


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"evaluate": lambda plan: {"accuracy": 0.5, "macs": 1.0}}, "must have an argument `epochs`"),
        ({"halving": 1}, "or a whole number from 2 to 1,000"),
        ({"halving_epochs": 9}, "between 1 and the full budget of 4"),
    ],
)
def test_what_cannot_be_halved_is_refused_before_anything_is_written(wrong, words, tmp_path):
    with pytest.raises(InputError, match=words):
        halved(tmp_path / "r", **wrong)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("sampler", ["random", "auto"])
def test_a_bound_on_a_metric_is_judged_after_the_full_budget_only(sampler, tmp_path):
    """After 1 of 4 epochs no plan has more than .56 accuracy, so the bound of .6 rejected all of them before."""
    run = halved(tmp_path / "r", constraints=["accuracy>=0.6"], sampler=sampler, report=False, seeds=1)
    rows = run.trials().iloc[1:]
    full = rows[rows["fidelity"] == 4]
    assert (rows["fidelity"] == 1).any()
    assert (full["state"] == "complete").any()
    assert (full.loc[full["state"] == "complete", "accuracy"] >= 0.6).all()
    assert not rows.loc[(rows["fidelity"] > 0) & (rows["fidelity"] < 4), "reason"].str.contains("breaks").any()


def test_a_bound_on_a_cost_that_is_returned_is_judged_at_once():
    bounded = AskedEvaluator(
        answer, list(DIRECTIONS), [parse_constraint("macs<=1.5e6"), parse_constraint("accuracy>=.9", None)], 4
    )
    reasons = {epochs: bounded.evaluate(Request.of(PLANS[3], epochs=epochs)).reason for epochs in (1, 4)}
    assert reasons[1] == "macs 2e+06 breaks macs<=1.5e+06 (limit 1.5e+06)"
    cheap = AskedEvaluator(answer, list(DIRECTIONS), [parse_constraint("accuracy>=.9", None)], 4)
    states = {epochs: cheap.evaluate(Request.of(PLANS[3], epochs=epochs)).state for epochs in (1, 4)}
    assert states == {1: "complete", 4: "rejected"}


def test_halving_is_part_of_what_makes_two_runs_the_same(run):
    with pytest.raises(RunError, match="halving: 2 there, 3 now"):
        halved(run.path, halving=3)
