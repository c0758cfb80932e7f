"""Failed trials that are tried again: they keep their record, and their plans count once."""

import json
from collections import Counter

import optuna
import pytest

import nasbench as nb
from nasbench.errors import InputError
from nasbench.library.plan import BARE, Plan
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import Ledger, evaluation_of, retried_numbers, standing
from nasbench.runs.run import load_run
from nasbench.runs.schema import FINALISTS
from nasbench.runs.shared_ledger import SharedLedger
from nasbench.runs.storage import quiet

TINY = {"variants": ["se", "eca"], "slots": ["stage1", "stage2"]}
"""9 plans."""


class Faulty:
    """A function that fails a number of times for some plans, and counts its calls."""

    def __init__(self, **failures):
        self.failures, self.calls = Counter(failures), Counter()

    def __call__(self, plan, seed=0):
        key = "_".join(plan.values()) or "bare"
        self.calls[key, seed] += 1
        name = key if seed == 0 else f"{key}_seed{seed}"
        if self.failures[name] > 0:
            self.failures[name] -= 1
            raise RuntimeError(f"{name} failed")
        return {"accuracy": len(key) + 0.01 * seed, "cost": float(len(plan))}


def run_search(out, evaluate, trials=9, **more):
    options = {"objectives": {"accuracy": "maximize", "cost": "minimize"}, "sampler": "random", "seeds": 1, **more}
    return nb.search(TINY, backbone="test_resnet", evaluate=evaluate, trials=trials, out=out, **options)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_bare_backbone_that_failed_is_tried_again(tmp_path, sampler):
    evaluate = Faulty(bare=2)
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"bare backbone itself failed.*bare failed; the same search tries it again"
        ):
            run_search(tmp_path / "r", evaluate, sampler=sampler)
    run = run_search(tmp_path / "r", evaluate, sampler=sampler)
    rows = run.trials()
    assert len(rows) == rows["plan_hash"].nunique() == 9
    assert set(rows["state"]) == {"complete"}
    assert evaluate.calls["bare", 0] == 3
    assert sum(evaluate.calls.values()) == 11
    assert run.summary()["state"] == "done"
    # the failures are still in the journal
    failed = [
        t for t in run.journal.study().get_trials() if t.user_attrs.get("evaluation", {}).get("state") == "failed"
    ]
    assert [trial.number for trial in failed] == [0, 1]
    assert run_search(tmp_path / "r", evaluate, sampler=sampler).trials().equals(rows), "resuming changes nothing"


def test_failed_trials_are_tried_again_only_if_asked(tmp_path):
    evaluate = Faulty(se=1, se_eca=2)
    before = run_search(tmp_path / "r", evaluate)
    # "se" has two plans, one at each stage, of which the first fails
    assert before.trials()["state"].value_counts().to_dict() == {"complete": 7, "failed": 2}
    calls = sum(evaluate.calls.values())
    assert calls == 9
    assert run_search(tmp_path / "r", evaluate).trials().equals(before.trials())
    assert sum(evaluate.calls.values()) == calls
    said = []
    again = run_search(tmp_path / "r", evaluate, retry_failed=True, on_event=lambda event: said.append(event.message))
    assert again.trials()["state"].value_counts().to_dict() == {"complete": 8, "failed": 1}
    assert again.trials()["plan_hash"].nunique() == len(again.trials()) == 9
    assert sum("is tried again, as trial" in line for line in said) == 2
    assert sum(evaluate.calls.values()) == calls + 2
    assert sum(e.state == "failed" for e in load_run(tmp_path / "r").evaluations()) == 1
    assert again.summary()["failed"] == 1
    # once more: the last one, and then there is none left
    for _ in range(2):
        last = run_search(tmp_path / "r", evaluate, retry_failed=True)
        assert set(last.trials()["state"]) == {"complete"}
        assert sum(evaluate.calls.values()) == calls + 3
    views = [json.loads(line) for line in (tmp_path / "r" / "trials.jsonl").read_text().splitlines()]
    assert Counter(view["state"] for view in views) == {"complete": 9}


def test_retries_do_not_use_up_the_budget(tmp_path):
    evaluate = Faulty(**dict.fromkeys(("se", "eca", "se_se", "se_eca", "eca_se", "eca_eca"), 1))
    first = run_search(tmp_path / "r", evaluate, trials=5)
    plans = set(first.trials()["plan_hash"])
    failed = int((first.trials()["state"] == "failed").sum())
    assert failed
    again = run_search(tmp_path / "r", evaluate, trials=5, retry_failed=True)
    assert set(again.trials()["plan_hash"]) == plans
    assert sum(evaluate.calls.values()) == 5 + failed
    more = run_search(tmp_path / "r", evaluate, trials=7)
    assert more.trials()["plan_hash"].nunique() == len(more.trials()) == 7


def test_further_seeds_are_tried_again(tmp_path):
    evaluate = Faulty(bare_seed1=1, se_seed2=1)
    options = {"plans": ["stage1=se", "stage1=eca"], "seeds": 3}
    options["objectives"] = {"accuracy": "maximize", "cost": "minimize"}
    run = nb.search(backbone="test_resnet", evaluate=evaluate, out=tmp_path / "r", **options)
    assert run.trials()["state"].value_counts().to_dict() == {"complete": 7, "failed": 2}
    run = nb.search(backbone="test_resnet", evaluate=evaluate, out=tmp_path / "r", retry_failed=True, **options)
    rows = run.trials()
    assert rows["state"].value_counts().to_dict() == {"complete": 9}
    assert rows.groupby("plan_hash")["seed"].apply(sorted).tolist() == [[0, 1, 2]] * 3
    assert len(run.journal.study(FINALISTS).get_trials()) == 8, "six further seeds, two of which have two trials"
    assert sum(evaluate.calls.values()) == 11


def test_a_killed_retry_is_resumed(tmp_path):
    """The process dies within the second attempt: the next one finishes this attempt, and starts no third."""
    evaluate = Faulty(bare=1)
    with pytest.raises(InputError):
        run_search(tmp_path / "r", evaluate)

    def interrupted(plan):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path / "r", interrupted)
    assert [e.state for e in load_run(tmp_path / "r").evaluations()] == ["failed"], "its record is still shown"
    run = run_search(tmp_path / "r", evaluate)
    assert len(run.trials()) == 9
    assert run.trials()["number"].min() == 1
    assert set(run.trials()["state"]) == {"complete"}


# -- several drivers ---------------------------------------------------------------------------------------------------

DIRECTIONS = {"accuracy": "maximize"}


@pytest.fixture
def ledgers():
    """Two drivers' ledgers of one study, in memory."""
    storage = optuna.storages.InMemoryStorage()
    with quiet():
        optuna.create_study(study_name="s", storage=storage, direction="maximize")
    return [SharedLedger(storage, "s", DIRECTIONS, driver) for driver in ("a", "b")]


def failed_evaluation(plan=BARE):
    return Evaluation(plan.text, plan.hash, 0, 0, "failed", "RuntimeError: no")


def test_only_one_driver_tries_a_failed_trial_again(ledgers):
    a, b = ledgers
    number = a.claim_trial(BARE.hash, {"plan": BARE.text})
    a.close_trial(number, failed_evaluation())
    failed = b.trials()[number]
    first, second = b.retry_trial(failed), a.retry_trial(failed)
    assert (first, second) == (1, None)
    trials = a.trials()
    assert standing(trials)[BARE.hash].number == first
    assert retried_numbers(trials) == {number}
    assert retried_numbers(trials, ended=True) == set(), "the second attempt is still running"
    assert trials[first].user_attrs["plan"] == BARE.text


def test_a_retry_keeps_its_place_in_the_budget(ledgers):
    a, b = ledgers
    a.budget = b.budget = 2
    plans = [Plan.of({"stage1": name}) for name in ("se", "eca", "cbam")]
    numbers = [a.claim_trial(plan.hash, {"plan": plan.text}) for plan in plans[:2]]
    a.close_trial(numbers[0], failed_evaluation(plans[0]))
    retry = b.retry_trial(b.trials()[numbers[0]])
    assert retry is not None
    assert a.claim_trial(plans[2].hash, {"plan": plans[2].text}) is None, "the budget is used up"
    b.close_trial(retry, failed_evaluation(plans[0]))
    assert [evaluation_of(t).state for t in a.trials() if evaluation_of(t) is not None] == ["failed", "failed"]
    assert standing(a.trials())[plans[0].hash].number == retry


def test_an_abandoned_retry_leaves_the_failed_trial(ledgers):
    a, _ = ledgers
    number = a.claim_trial(BARE.hash, {"plan": BARE.text})
    a.close_trial(number, failed_evaluation())
    retry = a.retry_trial(a.trials()[number])
    a.annotate_trial(retry, abandoned=True)
    a.end_trial(retry, optuna.trial.TrialState.FAIL)
    assert standing(a.trials())[BARE.hash].number == number
    assert Ledger.retry_trial(a, a.trials()[number]) == retry + 1
