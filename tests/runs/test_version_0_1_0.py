"""Runs that version 0.1.0 left: they open, give the same figures, and are resumed.

The folders beside this file were made by version 0.1.0: a function asked on two seeds, the same by successive halving,
and Informer trained on co2 with covariates of time.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import nasbench as nb

RUNS = Path(__file__).with_name("version-0.1.0")


@pytest.fixture(params=["function", "halving", "co2"])
def folder(request, tmp_path):
    return Path(shutil.copytree(RUNS / request.param, tmp_path / request.param))


def test_it_opens_with_the_same_front(folder):
    run = nb.load_run(folder)
    columns = ["number", "plan", *run.directions]
    there = pd.read_csv(folder / "front.csv")[columns]
    pd.testing.assert_frame_equal(run.front()[columns], there, check_dtype=False)


def test_its_models_are_built_from_its_configuration_alone(tmp_path):
    """Informer's embedding takes the four covariates, which version 0.1.0 recorded with the data alone."""
    run = nb.load_run(shutil.copytree(RUNS / "co2", tmp_path / "run"))
    model = run.builder().build(run.plan_of(0))
    assert sum(p.numel() for p in model.parameters()) == 176_319


def test_a_function_is_asked_for_what_is_missing_alone(tmp_path):
    asked = []

    def score(plan, seed=0):
        asked.append((str(plan), seed))
        return {"accuracy": 0.5 + 0.1 * len(plan) + 0.01 * seed, "macs": 1e6 * (1 + len(plan))}

    folder = shutil.copytree(RUNS / "function", tmp_path / "run")
    before = nb.load_run(folder).trials()
    options = {"backbone": "test_resnet", "objectives": {"accuracy": "maximize", "macs": "minimize"}, "seeds": 2}
    run = nb.search("tiny", evaluate=score, trials=7, sampler="random", out=folder, **options)
    first = [one for one in asked if one[1] == 0]
    assert len(first) == 1
    after = run.trials()
    assert after[after["seed"] == 0]["plan"].nunique() == 7
    pd.testing.assert_frame_equal(after[after["seed"] == 0].head(6), before[before["seed"] == 0].head(6))


def test_a_search_by_halving_continues(tmp_path):
    def score(plan, epochs):
        return {"accuracy": 0.5 + 0.1 * len(plan) - 0.3 / epochs, "macs": 1e6 * (1 + len(plan))}

    folder = shutil.copytree(RUNS / "halving", tmp_path / "run")
    options = {"backbone": "test_resnet", "objectives": {"accuracy": "maximize", "macs": "minimize"}, "halving": 2}
    run = nb.search("tiny", evaluate=score, trials=9, sampler="random", training={"epochs": 4}, out=folder, **options)
    trials = run.trials()
    assert len(trials) == trials["plan"].nunique() == 9


def test_a_setting_that_is_gone_is_ignored_with_a_note(tmp_path):
    def score(plan, seed=0):
        return {"accuracy": 0.5 + 0.1 * len(plan) + 0.01 * seed, "macs": 1e6 * (1 + len(plan))}

    folder, said = shutil.copytree(RUNS / "function", tmp_path / "run"), []
    options = {
        "backbone": "test_resnet",
        "objectives": {"accuracy": "maximize", "macs": "minimize"},
        "sampler": "random",
    }
    for _ in range(2):
        nb.search(
            "tiny", evaluate=score, trials=6, out=folder, on_event=lambda event: said.append(event.message), **options
        )
    notes = [line for line in said if line.startswith("the setting finalists no longer exists and is ignored")]
    assert len(notes) == 1, "only while config.yaml has it"
    assert "finalists" not in nb.load_run(folder).config["settings"]
