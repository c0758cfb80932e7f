"""The race for further trainings on quick functions: who is trained, in which order, what happens after a kill."""

import json
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

import nasbench as nb
from nasbench.errors import InputError
from nasbench.library.plan import BARE
from nasbench.runs.schema import FINALISTS
from nasbench.runs.trainings import trainings_of
from nasbench.study.phases.race import Race, explored_front

SPACE = {"variants": ["se", "eca", "dual_pool"], "compositions": ["none", "a", "a + b"], "slots": ["stage1", "stage2"]}
"""100 plans."""

OBJECTIVES = {"accuracy": "maximize", "cost": "minimize"}


def noisy(plan, seed):
    """Each se adds 1 point, and seeds differ by half a point."""
    draw = random.Random(f"{json.dumps(plan)} {seed}")
    return {"accuracy": 0.8 + 0.01 * str(plan).count("se") + draw.gauss(0, 0.005), "cost": float(len(str(plan)))}


class Asked:
    """The function, which remembers what it was asked, and may interrupt the search at its `stop`th call."""

    def __init__(self, function=noisy, stop=None):
        self.function, self.stop, self.calls = function, stop, []

    def __call__(self, plan, seed):
        self.calls.append((json.dumps(plan), seed))
        if len(self.calls) == self.stop:
            raise KeyboardInterrupt
        return self.function(plan, seed)


def search(out, evaluate=noisy, trials=12, space=SPACE, **more):
    options = {"objectives": OBJECTIVES, "sampler": "random", **more}
    return nb.search(space, backbone="test_resnet", evaluate=evaluate, trials=trials, out=out, **options)


def further(run):
    """The further trainings: their plan and seed, in the order in which they were begun."""
    return [(one.plan, one.seed) for one in run.journal.evaluations(FINALISTS)]


def test_the_bare_backbone_comes_first_and_the_budget_is_kept(tmp_path):
    asked = Asked()
    run = search(tmp_path / "r", asked)
    assert asked.calls[:3] == [("{}", 0), ("{}", 1), ("{}", 2)], "before any other plan"
    assert [seed for _, seed in asked.calls[3:14]] == [0] * 11, "then the space is explored"
    assert len(asked.calls) == 12 + 10
    assert max(Counter(asked.calls).values()) == 1
    by_plan = {}
    for plan, seed in asked.calls:
        by_plan.setdefault(plan, []).append(seed)
    assert all(seeds == list(range(len(seeds))) for seeds in by_plan.values()), (
        "the seeds of a plan go up from the first"
    )
    assert run.finalists()["seeds"].max() > 1


def test_each_training_has_its_reason_and_says_what_comes_next(tmp_path):
    said = []
    run = search(tmp_path / "r", on_event=lambda event: said.append(event) if event.stage == "seeds" else None)
    trials = run.journal.ledger(FINALISTS).trials()
    reasons = [trial.user_attrs["reason"] for trial in trials]
    assert reasons[:2] == ["how much the metric of the bare backbone varies between seeds"] * 2
    assert reasons[2] == "a second seed for a plan on the front"
    assert all(reasons)
    assert [trial.user_attrs["claim"] for trial in trials[:2]] == [f"{BARE.hash}:1", f"{BARE.hash}:2"]
    raced = [event for event in said if "next:" in event.message]
    assert [event.done for event in raced] == list(range(3, 10))
    assert {event.total for event in raced} == {10}
    for event, reason in zip(raced, reasons[3:], strict=True):
        assert reason in event.message.partition("next:")[2], "what was said to come next came next"
    assert said[-1].message.startswith("no further trainings: the 10 further trainings are spent; ")


def test_the_same_seed_gives_the_same_race(tmp_path):
    first, second = search(tmp_path / "a"), search(tmp_path / "b")
    assert further(first) == further(second)
    assert further(first) != further(search(tmp_path / "c", seed=1))


@pytest.mark.parametrize("stop", [2, 3, 16, 19, 22])
def test_a_race_killed_at_any_training_goes_on_as_if_it_had_not_been(tmp_path, stop):
    """Stopped during the bare backbone's seeds, at the first plan's, in the middle, and at the last of 22."""
    whole = Asked()
    expected = search(tmp_path / "whole", whole)
    before, after = Asked(stop=stop), Asked()
    with pytest.raises(KeyboardInterrupt) as caught:
        search(tmp_path / "parts", before)
    assert caught.value.__notes__ == [str(tmp_path / "parts")], "the message names the folder"
    run = search(tmp_path / "parts", after)
    assert before.calls[:-1] + after.calls == whole.calls
    assert further(run) == further(expected)
    assert run.finalists().equals(expected.finalists())


def test_a_larger_budget_extends_the_race(tmp_path):
    search(tmp_path / "parts", refine=5)
    asked = Asked()
    parts = search(tmp_path / "parts", asked, refine=9)
    assert len(asked.calls) == 4
    assert len(further(parts)) == 9


@pytest.mark.parametrize(
    "change",
    [
        {"refine": 0},
        {"seeds": 1},
        {"evaluate": lambda plan: {"accuracy": 0.5 + len(plan), "cost": 1.0}},
        {
            "objectives": {"params": "minimize", "macs": "minimize"},
            "evaluate": lambda plan, seed: {"params": 1, "macs": 1},
        },
    ],
    ids=["refine 0", "seeds 1", "a function without seed", "costs alone"],
)
def test_there_is_no_race(tmp_path, change):
    said = []
    run = search(tmp_path / "r", on_event=lambda event: said.append(event.stage), **change)
    assert further(run) == []
    assert set(said) == {"before", "search"}


def test_a_plan_gets_at_most_so_many_seeds(tmp_path):
    run = search(tmp_path / "r", seeds=2, refine=30)
    assert {seed for _, seed in further(run)} == {1}


def test_until_first_ends_at_the_first_that_is_better(tmp_path):
    def clear(plan, seed):
        return {"accuracy": 0.5 + 0.1 * ("se" in str(plan)) + 0.001 * (seed % 2), "cost": float(len(str(plan)))}

    said = []
    run = search(tmp_path / "r", clear, until="first", on_event=lambda event: said.append(event.message))
    assert said[-1].startswith("no further trainings: a plan is called BETTER; BETTER than the bare backbone: trial")
    assert len(further(run)) < 20


def test_a_plan_whose_mean_breaks_a_bound_gets_no_further_training(tmp_path):
    """`se` in both slots gains most. Its heat is 1 with the first seed and 9 with others, so its mean breaks 2."""

    def hot(plan, seed):
        good = str(plan).count("se") == 2
        return {**noisy(plan, seed), "accuracy": 0.8 + 0.1 * good + seed / 1e3, "heat": 9.0 if good and seed else 1.0}

    said, space = [], {"variants": ["se", "eca"], "slots": ["stage1", "stage2"]}
    run = search(
        tmp_path / "r", hot, trials=9, space=space, constraints=["heat<=2"], report=False, until="decided",
        on_event=lambda event: said.append(event.message),
    )  # fmt: skip
    rows = run.finalists()
    (both,) = rows[rows["plan"].str.count("se") == 2].to_dict(orient="records")
    assert (both["seeds"], both["verdict"], both["breaks"]) == (2, "NOT DECIDED", "heat 5 breaks heat<=2 (limit 2)")
    assert f"trial {both['number']} is infeasible, because the mean of its seeds breaks a bound" in " ".join(said)
    ending = next(line for line in said if line.startswith("no further trainings"))
    assert f"trial {both['number']}" not in ending


def test_until_decided_ends_when_no_plan_is_open(tmp_path):
    def worse(plan, seed):
        return {"accuracy": 0.5 - 0.01 * len(plan) + 0.0005 * (seed % 2), "cost": float(len(str(plan)))}

    said = []
    run = search(tmp_path / "r", worse, until="decided", on_event=lambda event: said.append(event.message))
    assert said[-1] == "no further trainings: no plan is open any more; no plan is called BETTER"
    assert len(further(run)) < 20


def test_the_time_limit_ends_the_race(tmp_path, monkeypatch):
    monkeypatch.setattr(Race, "late", True)
    said = []
    run = search(tmp_path / "r", on_event=lambda event: said.append(event.message))
    assert said[-1].startswith("no further trainings: the time limit has passed; ")
    assert [plan for plan, _ in further(run)] == ["{}", "{}"]


def test_failures_are_spent_and_end_a_plan(tmp_path):
    def fragile(plan, seed):
        if plan and seed:
            raise ValueError("broken")
        return noisy(plan, seed)

    run = search(tmp_path / "r", fragile, refine=12)
    failed = Counter(plan for plan, _ in further(run) if plan != "{}")
    assert len(further(run)) == 12
    assert max(failed.values()) <= 2
    assert (run.trials().query("seed > 0 and plan != '{}'")["state"] == "failed").all()


def test_few_plans_get_equal_seeds_instead(tmp_path):
    asked = Asked()
    run = search(tmp_path / "r", asked, trials=4)
    assert set(run.finalists()["seeds"]) == {3}
    assert len(asked.calls) == 12
    again = Asked()
    run = search(tmp_path / "r", again, trials=4, seeds=5)
    assert set(run.finalists()["seeds"]) == {5}
    assert len(again.calls) == 8
    # with more plans the recorded seeds stay, and the others race
    assert len(further(search(tmp_path / "r", trials=10, refine=20))) == 20


def test_few_plans_keep_a_budget_that_is_given(tmp_path):
    assert set(search(tmp_path / "r", trials=4, refine=5).finalists()["seeds"]) == {2, 3}


def test_two_workers_share_a_race(tmp_path, functions_by_value):
    run = search(tmp_path / "r", workers=2)
    done = further(run)
    assert len(done) == len(set(done)) == 10
    assert not run.trials().duplicated(["plan", "seed"]).any()


def test_with_halving_only_plans_at_the_full_budget_race(tmp_path):
    asked = []

    def trained(plan, seed, epochs):
        asked.append((json.dumps(plan), seed, epochs))
        return {**noisy(plan, seed), "accuracy": noisy(plan, seed)["accuracy"] - 0.1 / epochs}

    run = search(tmp_path / "r", trained, trials=30, halving=2, training={"epochs": 4})
    full = {plan for plan, seed, epochs in asked if epochs == 4 and seed == 0}
    raced = [(plan, epochs) for plan, seed, epochs in asked if seed > 0]
    assert len(raced) == 10
    assert {epochs for _, epochs in raced} == {4}
    assert {plan for plan, _ in raced} <= full
    assert run.finalists()["seeds"].max() > 1


def test_the_front_is_in_order_of_hypervolume(tmp_path):
    """Three plans are on the front if the bare backbone dominates none of them.

    To be minimised the points are (-0.9, 9), (-0.8, 2), (-0.7, 1); the reference lies a tenth of the range beyond the
    worst values, at (-0.68, 9.8). Alone they add 0.1·0.8 = 0.08, 0.1·7 = 0.7 and 0.02·1 = 0.02.
    """
    values = {"se": (0.9, 9.0), "eca": (0.8, 2.0), "dual_pool": (0.7, 1.0)}

    def front(bare):
        def known(plan):
            accuracy, cost = values[plan["stage1"]] if plan else (bare, 0.5)
            return {"accuracy": accuracy, "cost": cost}

        space = {"variants": list(values), "slots": ["stage1"]}
        run = search(tmp_path / str(bare), known, trials=4, space=space)
        return [json.loads(one.plan)["stage1"] for one in explored_front(run)]

    assert front(0.65) == ["eca", "se", "dual_pool"]
    assert front(0.75) == ["eca", "se"]
    assert front(0.95) == []


def test_the_front_compares_with_the_mean_of_the_bare_backbones_first_seeds(tmp_path):
    """Seeds 0, 1 and 2 of the bare backbone give 0.95, 0.65 and 0.65: their mean, 0.75, is below eca's 0.8."""

    def scored(plan, seed):
        if plan:
            return {"accuracy": 0.8 + 0.001 * seed, "cost": 2.0}
        return {"accuracy": 0.95 if seed == 0 else 0.65, "cost": 0.5}

    space = {"variants": ["eca"], "slots": ["stage1"]}
    run = search(tmp_path / "r", scored, trials=2, space=space, seeds=3)
    assert [json.loads(one.plan)["stage1"] for one in explored_front(run)] == ["eca"]


# -- what a function may return --------------------------------------------------------------------------------------


def with_items(plan, seed, count=50):
    draw = np.random.default_rng(abs(hash((json.dumps(plan), seed))) % 2**32)
    items = (draw.random(count) < 0.7).astype(float)
    return {"accuracy": items.mean(), "cost": float(len(str(plan))), "items": items}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"note": "hi"}, "evaluate returned 'hi' for note, which is not a number; return only numbers"),
        ({"accuracy": "0.9"}, "evaluate returned '0.9' for accuracy"),
        ({"cost": True}, "evaluate returned True for cost"),
        ({"cost": np.bool_(True)}, "for cost, which is not a number"),
        ({"curve": [0.1, 0.2]}, "evaluate returned [0.1, 0.2] for curve"),
        ({"loss": None}, "evaluate returned None for loss"),
    ],
)
def test_a_returned_value_that_is_no_number_is_named(tmp_path, change, told):
    """Nothing is ignored or converted silently. On the bare backbone it ends the search, and elsewhere its trial."""
    with pytest.raises(InputError) as caught:
        search(tmp_path / "bare", lambda plan: {"accuracy": 0.7, "cost": 1.0, **change}, trials=2)
    assert told in str(caught.value)
    run = search(tmp_path / "r", lambda plan: {"accuracy": 0.7, "cost": 1.0, **(change if plan else {})}, trials=2)
    assert [told in reason for reason in run.trials()["reason"]] == [False, True]


@pytest.mark.parametrize("kind", [int, np.float32, np.int64, np.asarray, Fraction])
def test_numbers_of_every_kind_are_taken(tmp_path, kind):
    run = search(tmp_path / "r", lambda plan: {"accuracy": kind(1), "cost": 1.0}, trials=2)
    assert run.trials()["accuracy"].tolist() == [1.0, 1.0]


def test_a_value_that_is_known_before_is_a_number(tmp_path):
    with pytest.raises(InputError, match="known returned '1' for cost, which is not a number; return only numbers"):
        search(tmp_path / "r", noisy, trials=2, known=lambda plan: {"cost": "1"})


def test_items_are_stored_and_sharpen_the_comparison(tmp_path):
    said = []
    run = search(tmp_path / "r", with_items, trials=6, refine=4, on_event=lambda event: said.append(event.message))
    for row in run.trials().itertuples():
        assert run.folder.load_items(row.plan_hash, row.seed).mean() == pytest.approx(row.accuracy)
    assert any("this search can detect a difference of about" in line for line in said)
    assert "items" not in run.trials()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"items": [1.0, 0.0]}, "the mean of the items is 0.5, but accuracy is 0.7"),
        ({"items": [[0.7]]}, "shape (1, 1)"),
        ({"items": []}, "shape (0,)"),
        ({"items": ["a"]}, "not numbers"),
        ({"items": [0.7, np.nan]}, "an item is not finite"),
        ({"items": [0.7] * 3}, "3 items, but the bare backbone has 2"),
    ],
)
def test_items_that_do_not_fit_fail_their_trial(tmp_path, change, reason):
    def wrong(plan, seed):
        return {"accuracy": 0.7, "cost": 1.0, "items": [0.9, 0.5], **(change if plan else {})}

    rows = search(tmp_path / "r", wrong, trials=3).trials()
    assert (rows["state"] == "failed").tolist() == [bool(json.loads(plan)) for plan in rows["plan"]]
    assert all(reason in text for text in rows["reason"] if text)


# -- evaluations of another run --------------------------------------------------------------------------------------


def test_noise_and_further_seeds_of_an_earlier_run_are_reused(tmp_path):
    old = search(tmp_path / "old")
    asked = Asked()
    new = search(tmp_path / "new", asked, trials=1, reuse=str(tmp_path / "old"))
    done = {(row.plan, row.seed) for row in old.trials().itertuples()}
    assert not set(asked.calls) & done, "what is known is imported"
    assert new.journal.earlier_noise["old"] == trainings_of(old).noise.to_dict()
    own = [one for one in new.evaluations() if not one.reused_from]
    assert len(own) == 1 + 10, "one new plan, and what is imported is not spent"
    # ν: that of the earlier run, and this run's own trainings beyond the first of each plan
    expected = trainings_of(old).noise.freedom + len(own) - len({one.plan for one in own})
    assert trainings_of(new).noise.freedom == expected
