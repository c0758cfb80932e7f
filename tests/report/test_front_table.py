"""The tables of plans: the verdict and standing of a plan, and why a verdict differs from the interval beside it."""

import numpy as np
import pandas as pd
import pytest
from support.recorded_run import Recorder

from nasbench.report.front_table import front_table, plans_table
from nasbench.report.headline import headline
from nasbench.runs.trainings import trainings_of

SE, ECA, SK = {"stage1": "se"}, {"stage1": "eca"}, {"stage1": "sk"}


@pytest.fixture
def recorder(tmp_path):
    """The bare backbone and SE with three seeds, and two plans with one seed, of which ECA is on the front."""
    recorder = Recorder(tmp_path / "r")
    for seed, shift in enumerate((-0.01, 0.0, 0.01)):
        recorder.add(None, 0.9 + shift, seed, macs=100)
        recorder.add(SE, 0.9 + shift * 2, seed, macs=200)
    recorder.add(ECA, 0.93, macs=300)
    recorder.add(SK, 0.5, macs=400)
    return recorder


def column(table, title):
    return dict(zip(table.texts("plan"), table.texts(title), strict=True))


def test_a_plan_with_one_seed_has_no_verdict_anywhere(recorder):
    finalists = recorder.run.finalists()
    table = plans_table(recorder.run, finalists, {})
    assert "A plan with one seed has no verdict." in table.caption
    verdicts = column(table, "verdict")
    assert {each: verdicts[f'{{"stage1": "{each}"}}'] for each in ("se", "eca", "sk")} == {
        "se": "NOT DECIDED", "eca": "one seed", "sk": "one seed",
    }  # fmt: skip
    told = headline(recorder.run, finalists, trainings_of(recorder.run), {}, {})
    assert any("1 NOT DECIDED" in line for line in told)  # as many as the table has


def test_the_bare_backbone_is_said_to_be_on_the_front(recorder):
    standing = column(plans_table(recorder.run, recorder.run.finalists(), {}), "standing")
    assert standing["bare backbone"] == "bare, on the front"
    assert standing['{"stage1": "eca"}'] == "on the front"
    recorder.add(SE, 0.9, 3, macs=200)
    recorder.add({"stage2": "se"}, 0.99, macs=50)
    standing = column(plans_table(recorder.run, recorder.run.finalists(), {}), "standing")
    assert standing["bare backbone"] == "bare"


def test_a_verdict_that_differs_from_its_interval_is_explained(recorder):
    finalists = recorder.run.finalists()
    assert "although" not in front_table(recorder.run, finalists, {}).caption
    row = finalists["plan"] == '{"stage1": "se"}'
    number = finalists.loc[row, "number"].item()
    changed = finalists.copy()
    changed.loc[row, ["difference_low", "difference_high", "p_better"]] = [-0.000373, 0.0497, 0.99992]
    changed.loc[row, "verdict"] = "BETTER"
    table = front_table(recorder.run, changed, {})
    assert f"Trial {number} has a verdict although the interval contains 0." in table.caption
    assert column(table, "P(better)")['{"stage1": "se"}'] == "> 0.999"
    changed.loc[row, ["difference_low", "verdict"]] = [0.001, "NOT DECIDED"]
    assert f"Trial {number} has no verdict although" in front_table(recorder.run, changed, {}).caption
    both = pd.concat([changed, changed[row].assign(number=9)])
    assert f"Each of the trials {number} and 9 has no verdict" in front_table(recorder.run, both, {}).caption


def test_values_of_one_seed_align_with_means(recorder):
    values = recorder.run.finalists().pipe(lambda table: plans_table(recorder.run, table, {})).texts("accuracy [95 %]")
    places = {len(text.split()[0].partition(".")[2]) for text in values}
    assert len(places) == 1
    assert np.isclose(float(values[0].split()[0]), 0.93)
