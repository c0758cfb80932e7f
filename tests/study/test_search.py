"""The study on a cheap evaluator: budget, repeats, constraints, failures, resume, kill."""

import json
import os
import socket
import sys

import pytest

import nasbench as nb
from nasbench.errors import InputError, RunError, SpaceError, UnknownNameError
from nasbench.runs.folder import RunFolder
from nasbench.runs.run import load_run

SPACE = {"variants": ["se", "eca", "dual_pool"], "compositions": ["none", "a", "a + b"], "slots": ["stage1", "stage2"]}
"""Per slot: none, 3 singles, 6 unordered sums with repetition = 10; 100 plans."""

TINY = {"variants": ["se", "eca"], "slots": ["stage1", "stage2"]}
"""9 plans."""


def score(plan):
    """More letters score higher and cost more: a known front with the bare plan on it."""
    text = " ".join(plan.values())
    return {"accuracy": 1 - 1 / (1 + len(text)), "cost": float(text.count("+") + len(plan))}


def run_search(out, space=SPACE, trials=12, **more):
    options = {"objectives": {"accuracy": "maximize", "cost": "minimize"}, "sampler": "random", "seeds": 1, **more}
    return nb.search(
        space, backbone="test_resnet", evaluate=options.pop("evaluate", score), trials=trials, out=out, **options
    )


def test_the_budget_counts_distinct_plans(tmp_path):
    calls = []
    run = run_search(tmp_path / "r", trials=40, evaluate=lambda plan: calls.append(str(plan)) or score(plan))
    rows = run.trials()
    assert len(rows) == rows["plan_hash"].nunique() == len(calls) == len(set(calls)) == 40
    assert rows["plan"].iloc[0] == "{}"
    assert set(rows["state"]) == {"complete"}


@pytest.mark.parametrize("objectives", [None, []])
def test_a_function_has_no_default_objectives_and_the_error_says_so(tmp_path, objectives):
    with pytest.raises(InputError, match=r"evaluate= has no default objectives.*objectives=, such as \"accuracy,macs"):
        run_search(tmp_path / "r", objectives=objectives)
    assert not (tmp_path / "r").exists()


def test_an_exhausted_space_ends_the_study(tmp_path):
    run = run_search(tmp_path / "r", TINY, trials=500)
    assert run.trials()["plan_hash"].nunique() == 9
    assert run.summary()["state"] == "done"


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "gp", "auto"])
def test_every_sampler_proposes_to_the_end(tmp_path, sampler):
    run = run_search(tmp_path / "r", TINY, trials=9, sampler=sampler)
    assert run.trials()["plan_hash"].nunique() == 9
    again = run_search(tmp_path / "again", TINY, trials=9, sampler=sampler)
    assert again.trials()["plan"].tolist() == run.trials()["plan"].tolist()


def test_the_front_is_the_front(tmp_path):
    run = run_search(tmp_path / "r", trials=100)
    rows = run.trials()
    assert len(rows) == 100
    front = run.front()
    for row in front.itertuples():
        beats = rows[(rows["accuracy"] >= row.accuracy) & (rows["cost"] <= row.cost)]
        assert ((beats["accuracy"] == row.accuracy) & (beats["cost"] == row.cost)).all()
    assert "{}" in set(front["plan"])


def test_constraints_reject_with_their_reason(tmp_path):
    run = run_search(tmp_path / "r", trials=30, constraints=["cost<=2"])
    rows = run.trials()
    rejected = rows[rows["state"] == "rejected"]
    assert len(rejected)
    assert rejected["reason"].str.contains(r"cost 3 breaks cost<=2|cost 4 breaks").all()
    assert rows[rows["state"] == "complete"]["cost"].max() <= 2
    assert not set(run.front()["plan_hash"]) & set(rejected["plan_hash"])


def test_a_trial_can_fail_and_a_study_cannot(tmp_path):
    def fragile(plan):
        if "+" in str(plan):
            sys.exit(3)
        if "eca" in str(plan):
            raise ZeroDivisionError("no good")
        if "dual_pool" in str(plan):
            return {"accuracy": float("nan" if "stage2" in plan else "-inf"), "cost": 1.0}
        return score(plan)

    run = run_search(tmp_path / "r", trials=40, evaluate=fragile)
    rows = run.trials()
    failed = rows[rows["state"] == "failed"]
    assert len(rows) == 40
    assert set(failed["reason"]) == {
        "ZeroDivisionError: no good",
        "it ends the process with sys.exit(3)",
        "nan: accuracy is not finite",
        "inf: accuracy is not finite",
    }
    assert failed["accuracy"].isna().all()
    assert (failed["cost"] == 1.0).tolist() == failed["reason"].str.contains("finite").tolist()
    assert not set(run.front()["plan_hash"]) & set(failed["plan_hash"])


def test_what_the_function_returns_is_checked(tmp_path):
    run_ok = run_search(tmp_path / "ok", trials=2, evaluate=lambda plan: {"accuracy": 1, "cost": 2, "more": 3})
    assert run_ok.trials()["more"].tolist() == [3.0, 3.0]
    with pytest.raises(InputError, match=r"bare backbone itself failed.*without cost"):
        run_search(tmp_path / "bad", trials=2, evaluate=lambda plan: {"accuracy": 1})


def test_resuming_extends_and_repeats_nothing(tmp_path):
    whole = run_search(tmp_path / "whole", trials=25, sampler="tpe")
    run_search(tmp_path / "parts", trials=8, sampler="tpe")
    calls = []
    parts = run_search(tmp_path / "parts", trials=25, sampler="tpe", evaluate=lambda p: calls.append(1) or score(p))
    assert len(calls) == 17
    assert parts.trials()["plan"].tolist() == whole.trials()["plan"].tolist()


def test_views_are_rebuilt_from_the_journal(tmp_path):
    run = run_search(tmp_path / "r", trials=6)
    for name in ("trials.jsonl", "trials.csv", "front.csv"):
        (tmp_path / "r" / name).unlink()
    run_search(tmp_path / "r", trials=6)
    lines = [json.loads(line) for line in (tmp_path / "r" / "trials.jsonl").read_text().splitlines()]
    assert [line["plan_hash"] for line in lines] == run.trials()["plan_hash"].tolist()
    assert (tmp_path / "r" / "front.csv").is_file()


def test_another_configuration_is_refused_and_nothing_changed(tmp_path):
    run_search(tmp_path / "r", trials=3)
    before = {f.name: f.read_bytes() for f in (tmp_path / "r").iterdir() if f.is_file()}
    with pytest.raises(RunError, match=r"seed: 0 there, 1 now"):
        run_search(tmp_path / "r", trials=3, seed=1)
    with pytest.raises(RunError, match="space"):
        run_search(tmp_path / "r", TINY, trials=3)
    assert {f.name: f.read_bytes() for f in (tmp_path / "r").iterdir() if f.is_file()} == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="not a run folder"):
        run_search(other, trials=3)
    assert [f.name for f in other.iterdir() if f.name != ".lock"] == ["thesis.txt"]


def test_two_processes_on_one_folder(tmp_path):
    run_search(tmp_path / "r", trials=3)
    owner = rf"another process is searching in .* \(process {os.getpid()} on {socket.gethostname()} since \d{{4}}-"
    with RunFolder(tmp_path / "r").lock(), pytest.raises(RunError, match=owner):
        run_search(tmp_path / "r", trials=5)


def test_python_surface(tmp_path):
    run = run_search(tmp_path / "r", trials=4)
    again = nb.load_run(tmp_path / "r")
    assert again.trials().equals(run.trials())
    with pytest.raises(InputError, match=r"no trial 99; it has 0 to 3"):
        again.plan_of(99)
    with pytest.raises(RunError, match="function"):
        again.build(0)
    with pytest.raises(RunError, match=r"no run at .*runs there: r"):
        load_run(tmp_path / "x")


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"backbone": "resnet81"}, UnknownNameError, "resnet"),
        ({"space": "five-propertys"}, UnknownNameError, "five-properties"),
        ({"sampler": "tpee"}, InputError, "tpe"),
        ({"space": {"variants": ["se"], "slots": ["stage9"]}}, SpaceError, "stage9"),
        ({"trials": 0}, InputError, "trials"),
        ({"modules": ["nowhere.py"]}, InputError, "nowhere.py"),
        ({"objectives": {}}, InputError, "objective"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, change, error, word):
    options = {"space": TINY, "backbone": "test_resnet", "objectives": {"accuracy": "maximize"}, "trials": 2, **change}
    with pytest.raises(error, match=word):
        nb.search(options.pop("space"), evaluate=score, out=tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(("ratio", "alone"), [(1.005, True), (1.05, False)])
def test_latencies_within_the_resolution_share_a_rank(tmp_path, ratio, alone):
    """Half a percent is no advantage that a measurement shows, so the bare backbone does not stay for it."""

    def measured(plan):
        return {"accuracy": 0.9 if plan else 0.8, "latency_ms": ratio if plan else 1.0}

    space = {"variants": ["se"], "slots": ["stage1"], "compositions": ["none", "a"]}
    run = run_search(tmp_path / "r", space, trials=2, evaluate=measured, objectives=["accuracy", "latency_ms"])
    assert list(run.front()["plan"]) == ['{"stage1": "se"}'] + ([] if alone else ["{}"])


def test_the_interval_of_a_latency_is_around_the_latency(tmp_path):
    """A search compares ratios times one latency of the bare backbone, because the speed of processes differs."""
    run = nb.search(
        {"variants": ["se"], "slots": ["stage4"]}, backbone="test_resnet", task="digits", trials=2, seeds=1,
        objectives=["accuracy", "latency_ms"], latency_s=0.5, training={"epochs": 1}, out=tmp_path / "run",
    )  # fmt: skip
    # The views show the latencies that were measured together at the end, the journal those of each trial.
    attributes = [json.loads(line).get("user_attr", {}) for line in (run.path / "journal.log").read_text().splitlines()]
    bare, row = (told["evaluation"]["costs"] for told in attributes if "evaluation" in told)
    for end in ("", "_low", "_high"):
        assert row[f"latency{end}_ms"] == pytest.approx(row[f"latency_ratio{end}"] * bare["latency_ms"])
