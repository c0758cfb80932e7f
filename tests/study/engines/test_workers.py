"""Searches with several workers, with what modules do to them, on Ray, and with another run's evaluations reused."""

import json
import os
from collections import Counter

import numpy as np
import pytest

import nasbench as nb
from nasbench.errors import InputError, RunError

pytestmark = pytest.mark.usefixtures("functions_by_value")

SPACE = {"variants": ["se", "eca", "dual_pool"], "compositions": ["none", "a", "a + b"], "slots": ["stage1", "stage2"]}
"""100 plans."""


def score(plan):
    text = " ".join(plan.values())
    return {"accuracy": 1 - 1 / (1 + len(text)), "cost": float(text.count("+") + len(plan))}


def search(out, space=SPACE, trials=12, evaluate=score, **more):
    options = {"objectives": {"accuracy": "maximize", "cost": "minimize"}, "sampler": "random", "seeds": 1, **more}
    return nb.search(space, backbone="test_resnet", evaluate=evaluate, trials=trials, out=out, **options)


def test_four_workers_find_distinct_plans(tmp_path):
    """The same seed in four workers of Optuna's own gave 10 distinct trials of 40."""
    calls = tmp_path / "calls"

    def noted(plan):
        with open(calls, "a") as file:
            file.write(f"{os.getpid()} {json.dumps(plan)}\n")
        return score(plan)

    run = search(tmp_path / "r", trials=40, workers=4, evaluate=noted)
    rows = run.trials()
    assert len(rows) == rows["plan_hash"].nunique() == 40
    assert rows["plan"].iloc[0] == "{}"
    asked = [line.split(" ", 1) for line in calls.read_text().splitlines()]
    assert max(Counter(plan for _, plan in asked).values()) == 1
    assert str(os.getpid()) not in {pid for pid, _ in asked}
    assert len({pid for pid, _ in asked}) > 1
    assert run.summary()["state"] == "done"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "auto"])
def test_samplers_propose_around_what_is_running(tmp_path, sampler):
    run = search(tmp_path / "r", trials=30, workers=3, sampler=sampler)
    assert run.trials()["plan_hash"].nunique() == 30


def test_workers_may_change_from_one_resume_to_the_next(tmp_path):
    search(tmp_path / "r", trials=6)
    search(tmp_path / "r", trials=12, workers=2)
    run = search(tmp_path / "r", trials=18, trial_timeout_s=60)
    assert run.trials()["plan_hash"].nunique() == 18


def test_modules_that_hang_die_or_leak_are_recorded_and_the_study_goes_on(tmp_path):
    calls = tmp_path / "calls"

    def moody(plan):
        import os
        import signal
        import time

        with open(calls, "a") as file:
            file.write(json.dumps(plan) + "\n")
        if "eca" in str(plan):
            time.sleep(1000)
        if "dual_pool" in str(plan):
            os.kill(os.getpid(), signal.SIGKILL)
        return score(plan)

    space = {**SPACE, "compositions": ["none", "a"]}  # 16 plans
    run = search(tmp_path / "r", space, trials=16, workers=2, trial_timeout_s=0.5, evaluate=moody)
    rows = run.trials()
    assert len(rows) == rows["plan_hash"].nunique() == 16
    hang = rows["plan"].str.contains("eca")
    die = rows["plan"].str.contains("dual_pool") & ~hang
    assert rows["reason"][hang].str.startswith("timeout: still running after 0.5 s").all()
    assert rows["reason"][die].str.startswith("worker died twice: its process was killed").all()
    assert (rows["state"][~hang & ~die] == "complete").all()
    assert (rows["state"][hang | die] == "failed").all()
    asked = Counter(calls.read_text().splitlines())
    expected = [2 if dying else 1 for dying in die]
    assert [asked[json.dumps(json.loads(plan))] for plan in rows["plan"]] == expected
    assert not set(run.front()["plan"]) & set(rows["plan"][hang | die])


def test_what_cannot_be_sent_writes_nothing(tmp_path):
    handle = (tmp_path / "open").open("w")
    with handle, pytest.raises(InputError, match="cannot be sent to worker processes"):
        search(tmp_path / "r", workers=2, evaluate=lambda plan: handle.write("x") and score(plan))
    assert not (tmp_path / "r").exists()


def test_a_trained_plan_comes_back_from_its_worker_whole(tmp_path, image_folder):
    """Same metrics, items and weights as in the process itself, bit for bit."""
    options = {"backbone": "test_resnet", "task": image_folder, "size": 32, "trials": 2, "seeds": 1, "latency_s": 0}
    options |= {"sampler": "random"}
    training = {"epochs": 1, "batch_size": 8}
    here = nb.search(SPACE, out=tmp_path / "here", training=training, **options)
    apart = nb.search(SPACE, out=tmp_path / "apart", training=training, trial_timeout_s=600, **options)
    same = ["plan", "accuracy", "loss", "params", "macs"]
    assert here.trials()[same].equals(apart.trials()[same])
    for row in here.trials().itertuples():
        assert np.array_equal(here.folder.load_items(row.plan_hash, 0), apart.folder.load_items(row.plan_hash, 0))
    kept = sorted(file.name for file in (tmp_path / "here" / "models").iterdir())
    assert kept == sorted(file.name for file in (tmp_path / "apart" / "models").iterdir())
    for file in kept:
        assert (tmp_path / "here/models" / file).read_bytes() == (tmp_path / "apart/models" / file).read_bytes()


# -- reuse -------------------------------------------------------------------------------------------------------------


def test_evaluations_of_another_run_cost_nothing(tmp_path):
    """A study goes on in a larger space: what is in it already is brought in, and not counted."""
    smaller = {**SPACE, "variants": ["se", "eca"]}
    old = search(tmp_path / "old", smaller, trials=15)
    calls = []
    new = search(
        tmp_path / "new", trials=10, reuse=str(tmp_path / "old"), evaluate=lambda p: calls.append(p) or score(p)
    )
    rows = new.trials()
    reused = rows[rows["reused_from"] == "old"]
    assert len(calls) == 10
    assert len(rows) == rows["plan_hash"].nunique() == 25
    assert set(reused["plan_hash"]) == set(old.trials()["plan_hash"])
    assert "{}" in set(reused["plan"]), "the bare backbone too"
    assert new.summary()["trials"] == 10
    again = search(
        tmp_path / "new", trials=12, reuse=str(tmp_path / "old"), evaluate=lambda p: calls.append(p) or score(p)
    )
    assert len(calls) == 12
    assert len(again.trials()) == 27


def test_only_what_fits_is_reused(tmp_path):
    """Plans outside the new space, failures, and what breaks a new constraint are left out."""

    def fragile(plan):
        if "eca" in str(plan):
            raise ValueError("broken")
        return score(plan)

    search(tmp_path / "old", trials=60, evaluate=fragile)
    narrower = {**SPACE, "variants": ["se", "eca"]}
    new = search(tmp_path / "new", narrower, trials=1, constraints=["cost<=2"], reuse=str(tmp_path / "old"))
    reused = new.trials().query("reused_from != ''")
    old = nb.load_run(tmp_path / "old").trials()
    fitting = old[(old["state"] == "complete") & ~old["plan"].str.contains("dual_pool") & (old["cost"] <= 2)]
    assert set(reused["plan_hash"]) == set(fitting["plan_hash"])
    assert len(reused)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"seed": 1}, r"seed: 0 there, 1 now"), ({"backbone": "test_convnext"}, "backbone: 'test_resnet'")],
)
def test_evaluations_made_under_other_conditions_are_refused(tmp_path, change, said):
    search(tmp_path / "old", trials=2)
    options = {"backbone": "test_resnet", "objectives": {"accuracy": "maximize", "cost": "minimize"}, **change}
    with pytest.raises(RunError, match=f"(?s)other conditions.*{said}"):
        nb.search(
            SPACE, evaluate=score, out=tmp_path / "new", reuse=str(tmp_path / "old"), trials=2, seeds=1, **options
        )
    with pytest.raises(RunError, match="no run at"):
        search(tmp_path / "new2", reuse=str(tmp_path / "nowhere"))


def test_reused_weights_and_items_come_along(tmp_path, small_data):
    options = {"backbone": "test_resnet", "task": "digits", "seeds": 1, "latency_s": 0, "sampler": "random"}
    training = {"epochs": 1, "batch_size": 64}
    old = nb.search(SPACE, out=tmp_path / "old", training=training, trials=2, keep="all", **options)
    new = nb.search(
        SPACE, out=tmp_path / "new", training=training, trials=1, keep="all", reuse=str(tmp_path / "old"), **options
    )
    for row in old.trials().itertuples():
        (there,) = new.trials().query("plan_hash == @row.plan_hash").itertuples()
        assert there.accuracy == row.accuracy
        assert np.array_equal(new.folder.load_items(row.plan_hash, 0), old.folder.load_items(row.plan_hash, 0))
        assert new.folder.weights_file(there.number).read_bytes() == old.folder.weights_file(row.number).read_bytes()
