"""The table of compared plans."""

import numpy as np
import pandas as pd
import pytest

from nasbench.evidence.comparison import compare, contents_of
from nasbench.evidence.pairs import compare_pair, mean_interval
from nasbench.evidence.trainings import Trainings
from nasbench.library.plan import BARE, Plan

TEXTS = [Plan.of({"stage1": "se"}).text, BARE.text, Plan.of({"stage1": "eca"}).text]


def table_of(scores, direction="maximize", costs=(2.0, 1.0, 3.0)):
    trainings = [Trainings.of(of_plan, direction=direction) for of_plan in scores]
    rows = pd.DataFrame({"plan": TEXTS, "metric": [np.mean(of_plan) for of_plan in scores], "macs": costs})
    return compare(rows, trainings, {"metric": direction, "macs": "minimize"}, "metric"), trainings


def test_the_contents_of_a_plan():
    plan = Plan.of({"stage1": "se(reduction=4)", "stage3": "eca >> se"})
    assert contents_of(plan) == [("stage1", "se"), ("stage3", "eca"), ("stage3", "se")]


def test_every_plan_stands_beside_the_bare_backbone():
    found, trainings = table_of([[0.9, 0.92, 0.91], [0.5, 0.51], [0.4]])
    assert found["verdict"].tolist() == ["BETTER", "BARE", "NOT DECIDED"]
    assert found["on_front"].tolist() == [True, True, False]
    assert found["difference"].tolist() == pytest.approx([0.405, 0.0, -0.105])
    assert found["difference_low"].isna().tolist() == [False, False, True]
    assert found["p_better"].isna().tolist() == [False, True, True]
    assert found.loc[0, "metric_low"] < 0.91 < found.loc[0, "metric_high"]
    assert found["probability"].tolist() == [1.0, 1.0, 0.0]
    assert compare_pair(trainings[0], trainings[1]).difference == found.loc[0, "difference"]


def test_of_an_error_less_is_better_and_its_own_interval_keeps_its_sign():
    found, trainings = table_of([[0.2, 0.22, 0.21], [0.5, 0.51], [0.9, 0.91]], "minimize")
    assert found["verdict"].tolist() == ["BETTER", "BARE", "WORSE"]
    assert found.loc[0, "difference"] == pytest.approx(0.295)
    assert 0 < found.loc[0, "metric_low"] < 0.21 < found.loc[0, "metric_high"]
    assert np.isnan(mean_interval(Trainings.of([0.2]))).all()
    assert len(trainings) == 3


def test_one_evaluation_each_has_no_probability():
    found, _ = table_of([[0.9], [0.5], [0.4]])
    assert found["probability"].isna().all()
    assert set(found["verdict"]) == {"BARE", "NOT DECIDED"}


def test_costs_alone_have_no_verdict():
    rows = pd.DataFrame({"plan": TEXTS, "macs": [2.0, 1.0, 3.0]})
    found = compare(rows, [], {"macs": "minimize"}, None)
    assert found["probability"].tolist() == [0.0, 1.0, 0.0]
    assert "verdict" not in found
