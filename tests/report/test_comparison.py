"""Runs beside each other: paired differences with the noise of both."""

import numpy as np
import pytest
from scipy.stats import t as student
from support.recorded_run import Recorder

from nasbench import cli
from nasbench.errors import InputError
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


class TestLearning:
    """Runs of the same plans with and without labels: their metrics differ, and their rankings are compared."""

    PLANS = (None, SE, ECA, {"stage2": "se"}, {"stage2": "eca"})

    def runs(self, tmp_path, second, *, learn="simclr", metric="knn_accuracy", plans=PLANS):
        recorders = (
            Recorder(tmp_path / "labels"),
            Recorder(tmp_path / "without", (metric, "macs"), learn=learn),
        )
        for recorder, scores in zip(recorders, ((0.5, 0.6, 0.7, 0.8, 0.9), second), strict=True):
            for plan, score in zip(plans, scores, strict=False):
                for seed, step in enumerate((-0.01, 0.01)):
                    recorder.add(plan, score + step, seed)
        return [load_run(recorder.run.path) for recorder in recorders]

    def test_the_ranking_is_compared(self, tmp_path, capsys):
        """Nine of ten pairs are ordered alike: (9 - 1) / 10."""
        runs = self.runs(tmp_path, (0.3, 0.4, 0.5, 0.7, 0.6))
        (row,) = compare(runs).agreement.to_dict(orient="records")
        assert (row["first_learn"], row["second_learn"], row["second_metric"]) == (
            "supervised", "simclr", "knn_accuracy",
        )  # fmt: skip
        assert (row["plans"], row["tau"]) == (5, pytest.approx(0.8))
        assert row["low"] < 0.8 < row["high"]
        assert cli.main(["compare", *(str(run.path) for run in runs), "--out", str(tmp_path / "out")]) == 0
        assert "agreement" in capsys.readouterr().out
        assert (tmp_path / "out" / "agreement.csv").read_text().startswith("first,second,first_learn")
        assert not list((tmp_path / "out").glob("*.svg"))  # different metrics have no common axis

    def test_a_loss_ranks_the_lowest_first(self, tmp_path):
        runs = self.runs(tmp_path, (0.9, 0.8, 0.7, 0.6, 0.5), metric="loss")
        assert compare(runs).agreement["tau"].tolist() == [pytest.approx(1)]

    def test_too_few_plans(self, tmp_path):
        compared = compare(self.runs(tmp_path, (0.3, 0.4, 0.5), plans=self.PLANS[:3]))
        assert compared.agreement["tau"].isna().all()
        assert any("have 3 plans in common; their rankings are compared with at least 4" in n for n in compared.notes)

    def test_other_metrics_without_another_way_to_learn(self, tmp_path):
        with pytest.raises(InputError, match="no common metric"):
            compare(self.runs(tmp_path, (0.3, 0.4, 0.5, 0.7, 0.6), learn="supervised"))
