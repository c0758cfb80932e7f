"""What a run can tell apart, by hand: without items only the seeds count."""

import math

import numpy as np
import pytest
from scipy.stats import t as student
from support.recorded_run import Recorder

from nasbench.errors import InputError, RunError
from nasbench.report.headline import headline
from nasbench.runs.power import SEEDS, least_detectable
from nasbench.runs.settings import SearchSettings
from nasbench.runs.trainings import trainings_of
from nasbench.study.phases.foresight import foresight

SE = {"stage1": "se"}


@pytest.fixture
def recorder(tmp_path):
    """The bare backbone on three seeds, with a standard deviation of 0.01, and a plan of one."""
    recorder = Recorder(tmp_path / "r")
    for seed, score in enumerate((0.89, 0.90, 0.91)):
        recorder.add(None, score, seed)
    recorder.add(SE, 0.95)
    return recorder


def detectable(seeds, freedom, deviation=0.01):
    return (student.ppf(0.975, freedom) + student.ppf(0.8, freedom)) * deviation * math.sqrt(2 / seeds)


def test_the_detectable_difference_by_hand(recorder):
    """Two degrees of freedom so far. A plan of S seeds adds S - 1, and the bare backbone those above its three."""
    power = recorder.run.power()
    assert power.seed_sd == pytest.approx(0.01)
    assert (power.items, power.floor, power.effect, power.seeds_needed) == (0, 0.0, None, None)
    expected = {seeds: detectable(seeds, 2 + seeds - 1 + max(0, seeds - 3)) for seeds in SEEDS}
    assert power.detectable == pytest.approx(expected)
    assert "no validation items are stored" in str(power)


@pytest.mark.parametrize("effect", [0.05, 0.02, 0.011])
def test_the_seeds_that_an_effect_needs(recorder, effect):
    seeds = recorder.run.power(effect).seeds_needed
    assert detectable(seeds, 2 + seeds - 1 + max(0, seeds - 3)) <= effect
    assert seeds == 2 or detectable(seeds - 1, 2 + seeds - 2 + max(0, seeds - 4)) > effect
    assert f"needs {seeds} seeds" in str(recorder.run.power(effect))


def test_below_the_floor_only_items_help(tmp_path):
    recorder, draw = Recorder(tmp_path / "r"), np.random.default_rng(0)
    for plan in (None, SE):
        for seed in range(3):
            items = draw.random(200) < 0.8
            recorder.add(plan, items.mean(), seed, items=items)
    power = recorder.run.power(0.001)
    assert power.items == 200
    assert power.seeds_needed is None
    assert power.items_needed == math.ceil(200 * (power.floor / 0.001) ** 2)
    assert "no number of seeds is enough" in power.decides
    assert recorder.run.power(2 * power.floor).items_needed is None


def predict_one_class(recorder, plan, seed):
    """24 items of three classes: each seed predicts another class for everything, so each accuracy is 1/3."""
    items = np.zeros(24)
    items[8 * (seed % 3) : 8 * (seed % 3) + 8] = 1
    recorder.add(plan, items.mean(), seed, items=items)


def test_equal_metrics_of_all_trainings_do_not_look_certain(tmp_path):
    """Seeds differ on 16 of 24 items, but not in their accuracy. The items show at least W/N.

    With two seeds, 8 items are (1, 0), 8 are (0, 1) and 8 are (0, 0). Their deviations are ±1/2 on 16 items, so W is
    2·16·(1/4)/23 = 8/23, and W/N is 0.0145. An accuracy of 1/3 on 24 items that are drawn independently has a variance
    of 2/9/24 = 0.0093, so the interval of the mean must not be narrower than one of 24 draws with two seeds.
    """
    recorder = Recorder(tmp_path / "r")
    for plan in (None, SE):
        for seed in range(2):
            predict_one_class(recorder, plan, seed)
    power = recorder.run.power(0.01)
    assert power.unknown == (
        "which differences can be detected is not known, because accuracy is the same in all 4 trainings"
    )
    assert str(power) == power.unknown
    assert np.isnan([power.seed_sd, power.floor, *power.detectable.values()]).all()
    assert (power.seeds_needed, power.items_needed) == (None, None)
    rows = recorder.run.finalists()
    assert rows["accuracy_high"].max() - rows["accuracy_low"].min() > 2 * 1.96 * math.sqrt(2 / 9 / 24 / 2)
    assert rows.loc[1, "difference_high"] > 0.2
    lines = foresight(trainings_of(recorder.run), "accuracy", SearchSettings(plans=("se",), seeds=2), 1)
    assert lines == f"{power.unknown} so far"


def test_every_statement_about_power_has_the_same_figure(tmp_path):
    """The line of a resumed search, the report and the command, for a run whose trainings are all done."""
    recorder, draw = Recorder(tmp_path / "r", plans=("stage1=se",), seeds=3), np.random.default_rng(1)
    for plan in (None, SE):
        for seed in range(3):
            items = draw.random(100) < 0.7
            recorder.add(plan, items.mean(), seed, items=items)
    run = recorder.run
    least, recorded = run.power().detectable[3], trainings_of(run)
    assert least == least_detectable(recorded, 3)
    assert f"a difference of about {least:.2g} (with 3 seeds)" in foresight(recorded, "accuracy", run.settings, 1)
    told = headline(run, run.finalists(), recorded, {}, {})
    assert any(f"With 3 seeds for each plan, this run can detect differences of {least:.2g}" in line for line in told)
    assert f"{least:.3g} with 3" in str(run.power())


@pytest.mark.parametrize("effect", [0, -0.01, float("nan"), float("inf"), "much"])
def test_an_effect_that_is_none(recorder, effect):
    with pytest.raises(InputError, match="above 0"):
        recorder.run.power(effect)


def test_runs_without_power(tmp_path):
    once = Recorder(tmp_path / "once")
    once.add(None, 0.9)
    once.add(SE, 0.95)
    with pytest.raises(RunError, match=r"one evaluation of each plan.*--refine 2"):
        once.run.power()
    costs = Recorder(tmp_path / "costs", objectives=("macs", "params"))
    with pytest.raises(RunError, match="every objective of run costs is a cost"):
        costs.run.power()
