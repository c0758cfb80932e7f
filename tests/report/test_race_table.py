"""The race, replayed from the recorded trainings."""

import numpy as np
import pytest
from support.recorded_run import Recorder

from nasbench.evidence.race import race
from nasbench.report.page import page_of
from nasbench.report.race_table import race_table
from nasbench.runs.trainings import trainings_of

PLANS = [{"stage1": name} for name in ("se", "eca", "cbam", "sk")]


@pytest.fixture
def run(tmp_path):
    recorder, draw = Recorder(tmp_path / "r"), np.random.default_rng(1)

    def add(plan, mean, seed, reason=""):
        items = draw.random(500) < mean
        recorder.add(plan, items.mean(), seed, items=items, reason=reason)

    for seed in range(3):
        add(None, 0.6, seed, "how much seeds differ" if seed else "")
    for plan, mean in zip(PLANS, (0.8, 0.6, 0.59, 0.1), strict=True):
        add(plan, mean, 0)
    add(PLANS[0], 0.8, 1, "a second seed")
    add(PLANS[0], 0.8, 2, "the best open plan")
    recorder.add(PLANS[1], 0, 1, failed="ValueError: x", reason="the best open plan")
    add(PLANS[2], 0.5, 1, "the best open plan")
    return recorder.run


def test_each_further_training_in_order(run):
    table = race_table(run)
    assert table["number"].tolist() == [0, 0, 1, 1, 2, 3]
    assert table["seed"].tolist() == [1, 2, 1, 2, 1, 1]
    assert table["reason"].tolist()[1:3] == ["how much seeds differ", "a second seed"]
    assert table["value"].isna().tolist() == [False] * 4 + [True, False]
    assert table["p_better"].isna().tolist() == [True, True, False, False, False, False]
    assert table["state"].tolist() == ["", "", "open", "called", "open", "dropped"]
    assert table["news"].tolist()[:2] == ["trial 4 left out", ""]


def test_the_last_belief_is_that_of_all_trainings(run):
    recorded = trainings_of(run)
    now = race(recorded.standing, recorded.contents, spent=0)
    assert race_table(run)["p_better"].iloc[-1] == pytest.approx(now.posterior.better[2])


def test_a_belief_does_not_depend_on_what_came_later(run, tmp_path):
    """The third step is what the race tells of a run that has ended there."""
    shorter, draw = Recorder(tmp_path / "shorter"), np.random.default_rng(1)
    steps = [(None, 0.6, 0), (None, 0.6, 1), (None, 0.6, 2)]
    steps += [(plan, mean, 0) for plan, mean in zip(PLANS, (0.8, 0.6, 0.59, 0.1), strict=True)]
    for plan, mean, seed in [*steps, (PLANS[0], 0.8, 1)]:
        items = draw.random(500) < mean
        shorter.add(plan, items.mean(), seed, items=items, reason="x")
    assert race_table(shorter.run)["p_better"].iloc[-1] == pytest.approx(race_table(run)["p_better"].iloc[2])


def test_the_page_shows_it(run):
    (table,) = [table for table in page_of(run, {}, {}).tables if table.title == "The race"]
    texts = [[cell.text for cell in row.cells] for row in table.rows]
    assert texts[3][1:3] == ['{"stage1": "se"}', "2"]
    assert texts[3][6] == "called BETTER"
    assert texts[4][3] == "failed"
    assert [row.bare for row in table.rows] == [True, True, False, False, False, False]


def test_no_race_without_reasons(tmp_path):
    recorder = Recorder(tmp_path / "r")
    for seed in range(2):
        recorder.add(None, 0.5, seed)
        recorder.add(PLANS[0], 0.6, seed)
    assert race_table(recorder.run).empty
    assert "The race" not in {table.title for table in page_of(recorder.run, {}, {}).tables}
    costs = Recorder(tmp_path / "costs", objectives=("macs", "params"))
    costs.add(None, 1.0, params=1.0)
    assert race_table(costs.run).empty
