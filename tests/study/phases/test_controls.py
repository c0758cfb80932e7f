"""The phase that trains controls, on real searches: of a given plan, and of a space of two plans."""

import numpy as np
import pytest

import nasbench as nb
from nasbench.library.plan import Plan
from nasbench.report.control_table import control_table
from nasbench.runs.run import Run
from nasbench.runs.schema import CONTROLS
from nasbench.study.phases.equal_cost import control_for
from nasbench.study.problem import make_problem

PLAN = Plan.of({"stage1": "depthwise_separable"})


def searched(folder, *space, **more):
    """Search, and return the run and what was said of controls."""
    said = []
    run = nb.search(
        *space,
        backbone="test_resnet",
        size=32,
        seeds=2,
        training={"epochs": 1},
        objectives={"macs": "maximize", "accuracy": "maximize"},
        latency_s=0,
        out=folder,
        on_event=lambda event: said.append(event.message) if event.stage == CONTROLS else None,
        **more,
    )
    return run, said


@pytest.fixture(scope="module")
def search(tmp_path_factory, small_data):
    """Runs the search of the given plan, which trains the controls of all plans, and tells what was said of them."""
    folder = tmp_path_factory.mktemp("controls") / "r"
    return lambda **more: searched(folder, plans=[PLAN.text], **more)


@pytest.fixture(scope="module")
def lines(search):
    """What was said on a search without controls, then with them, and again, when there is nothing left to do."""
    return [search(controls=False)[1], search()[1], search()[1]]


@pytest.fixture(scope="module")
def run(search, lines):
    return search()[0]


def test_each_control_is_trained_on_every_seed_once(run, lines):
    without, first, second = lines
    assert without == []
    assert [line.split(":")[0] for line in first] == ["control, seed 0", "control, seed 1"]
    assert second == []
    control = control_for(PLAN, make_problem(run.settings).evaluator.plan_costs)
    trials = run.journal.ledger(CONTROLS).trials()
    assert {trial.user_attrs["plan"] for trial in trials} == {control.plan.text}
    assert run.folder.load_items(control.plan.hash, 1) is not None


def test_in_a_search_only_a_plan_called_better_gets_one(tmp_path, small_data, monkeypatch):
    """The verdict is set here: first it is open, then BETTER."""
    space, compared, verdict = {"variants": ["depthwise_separable"], "slots": ["stage1"]}, Run.finalists, "NOT DECIDED"
    monkeypatch.setattr(Run, "finalists", lambda self: compared(self).assign(verdict=["BARE", verdict]))
    assert searched(tmp_path / "r", space, trials=2)[1] == []
    verdict = "BETTER"
    said = searched(tmp_path / "r", space, trials=2)[1]
    assert [line.split(":")[0] for line in said] == ["control, seed 0", "control, seed 1"]


def test_the_search_knows_nothing_of_controls(run, lines):
    texts = " ".join(run.trials()["plan"])
    assert "bottleneck" not in texts
    assert len(run.trials()) == 4  # two plans on two seeds
    assert len(run.finalists()) == 2


def test_the_table_pairs_a_finalist_with_its_control(run, lines):
    table = control_table(run)
    assert len(table) == 1
    row = table.iloc[0]
    assert Plan.of(row["plan"]) == PLAN
    assert row["number"] == 1
    assert row["seeds"] == 2
    assert row["exact"]
    expected = control_for(PLAN, make_problem(run.settings).evaluator.plan_costs)
    assert Plan.of(row["control"]) == expected.plan
    assert row["ratio"] == pytest.approx(expected.ratio)
    items = {h: np.stack([run.folder.load_items(h, seed) for seed in (0, 1)]) for h in (PLAN.hash, expected.plan.hash)}
    gap = items[PLAN.hash].mean() - items[expected.plan.hash].mean()
    assert row["difference"] == pytest.approx(gap)
    assert row["metric"] - row["control_metric"] == pytest.approx(gap)
    assert row["difference_low"] < gap < row["difference_high"]
    decided = row["difference_low"] > 0 or row["difference_high"] < 0
    assert (row["verdict"] != "NOT DECIDED") == decided
