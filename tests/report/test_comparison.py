"""Runs beside each other: paired differences with the noise of both."""

import numpy as np
import pytest
from scipy.stats import t as student
from support.recorded_run import Recorder

from nasbench.report.comparison import compare
from nasbench.runs.run import load_run

SE, ECA = {"stage1": "se"}, {"stage1": "eca"}


@pytest.fixture
def recorders(tmp_path):
    """Two runs. The first has the bare backbone and se on three seeds, the second on two, and eca once."""
    first, second = Recorder(tmp_path / "first"), Recorder(tmp_path / "second")
    for plan, scores in ((None, (0.80, 0.81, 0.82)), (SE, (0.84, 0.85, 0.86))):
        for seed, score in enumerate(scores):
            first.add(plan, score, seed)
    for plan, scores in ((None, (0.81, 0.83)), (SE, (0.90, 0.92)), (ECA, (0.80,))):
        for seed, score in enumerate(scores):
            second.add(plan, score, seed)
    return first, second


def test_the_noise_is_that_of_both_runs(recorders):
    """Squares 0.0002 twice and 0.0002 twice, with 2 + 2 + 1 + 1 degrees of freedom."""
    table = compare([recorder.run for recorder in recorders]).pairs
    row = table[(table["what"] == "same plan") & table["second_plan"].str.contains("se")].iloc[0]
    error = np.sqrt(0.0008 / 6 * (1 / 3 + 1 / 2))
    half = student.ppf(0.975, 6) * error
    assert row["seeds"] == 2
    assert row["difference"] == pytest.approx(0.06)
    assert (row["low"], row["high"]) == pytest.approx((0.06 - half, 0.06 + half))
    assert row["verdict"] == "BETTER"
    assert table["what"].tolist() == ["best of each", "same plan", "same plan"]


def test_items_that_cannot_be_paired(recorders):
    first, second = recorders
    for recorder, items in ((first, 10), (second, 20)):
        for plan in recorder.run.finalists()["plan_hash"]:
            for seed in range(3):
                recorder.run.folder.save_items(plan, seed, np.full(items, 0.5))
    comparison = compare([load_run(recorder.run.path) for recorder in recorders])
    assert comparison.pairs.empty
    assert "first and second, same plan: they have different numbers of validation items" in comparison.notes
