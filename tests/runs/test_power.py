"""What a run can tell apart, by hand: without items only the seeds count."""

import math

import numpy as np
import pytest
from scipy.stats import t as student
from support.recorded_run import Recorder

from nasbench.errors import InputError, RunError
from nasbench.runs.power import SEEDS

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
