"""The line before a search, on trainings whose noise is known by hand."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from nasbench.evidence.items import long_run_variance
from nasbench.evidence.trainings import Trainings
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.power import why_no_interval
from nasbench.runs.settings import SearchSettings
from nasbench.runs.trainings import PlanTrainings, RunTrainings
from nasbench.study.phases.foresight import foresight


def bare(*scores):
    """The bare backbone with these scores and no items."""
    evaluations = tuple(Evaluation("{}", "0", seed, 0, "complete") for seed, _ in enumerate(scores))
    return RunTrainings(PlanTrainings(evaluations, 0, Trainings.of(scores)), (), {})


def test_it_says_what_can_be_told_apart():
    """Scores 0.89, 0.90, 0.91: s = 0.01 with ν 2, and 8 of 10 further trainings to come make it 10.

    MDE(6) = (t(.975, 10) + t(.8, 10))·√(2s²/6) = (2.228 + 0.879)·0.005774 = 0.0179.
    """
    mde = (student.ppf(0.975, 10) + student.ppf(0.8, 10)) * 0.01 * math.sqrt(2 / 6)
    assert mde == pytest.approx(0.0179, abs=5e-5)
    line = foresight(bare(0.89, 0.90, 0.91), "accuracy", SearchSettings(), 23)
    assert line == (
        "this search can detect a difference of about 0.018 (with 6 seeds, the most that a plan can get); estimated "
        "from 3 trainings, and again from all of them in the report"
    )


def test_equal_seeds_of_the_bare_backbone_promise_nothing():
    line = foresight(bare(0.5, 0.5), "accuracy", SearchSettings(), 23)
    assert line == (
        "which differences can be detected is not known, because accuracy is the same in all 2 trainings so far"
    )


def test_it_says_what_a_difference_would_take():
    trainings = bare(0.89, 0.90, 0.91)
    line = foresight(trainings, "accuracy", SearchSettings(effect=0.05), 23)
    assert line.endswith(". 0.05 needs 2 seeds, which a plan can get")
    line = foresight(trainings, "accuracy", SearchSettings(effect=0.01), 23)
    # MDE(S) ≈ 2.82·s·√(2/S) ≤ s from about 16 seeds on
    assert line.endswith(". 0.01 needs 17 seeds: --seeds 17 --refine 32")


def test_it_says_that_nothing_will_be_decided():
    line = foresight(bare(0.89, 0.90, 0.91), "accuracy", SearchSettings(refine=2), 23)
    assert line == "2 further trainings give no plan a second seed, so nothing will be decided"
    assert foresight(bare(0.9), "accuracy", SearchSettings(), 23) == ""


def test_one_item_allows_no_interval():
    evaluations = tuple(Evaluation("{}", "0", seed, 0, "complete") for seed in range(3))
    scores = (0.89, 0.90, 0.91)
    trainings = Trainings.of(scores, [np.array([score]) for score in scores])
    line = foresight(RunTrainings(PlanTrainings(evaluations, 0, trainings), (), {}), "accuracy", SearchSettings(), 23)
    assert line == "nothing can be decided: 1 validation item allows no interval; give more validation items"


def test_windows_that_overlap_allow_no_interval_and_it_says_which_horizon_does():
    """105 windows of 96 steps are 200 rows. A horizon h gives 201 - h windows, and 2h of them are needed: h = 67."""
    values = np.random.default_rng(0).random((3, 105))
    evaluations = tuple(Evaluation("{}", "0", seed, 0, "complete") for seed in range(3))
    trainings = Trainings.of(values.mean(axis=1), values, block=96)
    line = foresight(RunTrainings(PlanTrainings(evaluations, 0, trainings), (), {}), "accuracy", SearchSettings(), 2)
    assert line.startswith("nothing can be decided: the 105 validation windows overlap, and an interval needs 192")
    assert "--horizon 67 or less" in line
    assert np.isnan(long_run_variance(values[0], 96))
    for horizon, allowed in ((67, True), (68, False)):
        windows = np.random.default_rng(0).random(201 - horizon)
        assert np.isfinite(long_run_variance(windows, horizon)) == allowed
        assert (why_no_interval(len(windows), horizon) == "") == allowed
