"""A run is continued by its folder alone, and only if nothing else that defines a search is given."""

import pytest

import nasbench as nb
from nasbench.errors import RunError
from nasbench.runs.continued import continued
from nasbench.runs.settings import read_settings

OBJECTIVES = {"score": "maximize", "modules": "minimize"}


def score(plan, seed):
    return {"score": len(plan) + seed / 100, "modules": len(plan)}


@pytest.fixture
def folder(tmp_path):
    nb.search(
        "tiny", evaluate=score, objectives=OBJECTIVES, trials=4, refine=0, sampler="random", seed=3,
        constraints=["modules<=3"], out=tmp_path / "r",
    )  # fmt: skip
    return tmp_path / "r"


def test_a_search_is_continued_with_the_settings_of_its_run(folder):
    run = nb.search(evaluate=score, trials=6, out=folder)
    assert run.trials()["plan"].nunique() == 6
    settings = run.settings
    assert (settings.space, settings.seed, settings.sampler, settings.trials) == ("tiny", 3, "random", 6)
    assert settings.objectives == OBJECTIVES
    assert settings.constraints == ("modules<=3",)


def test_how_a_search_was_carried_out_is_not_taken_over(tmp_path):
    nb.search("tiny", evaluate=score, objectives=OBJECTIVES, trials=3, refine=0, time_s=3600, out=tmp_path / "r")
    read, origins = read_settings({"trials": 5})
    settings = continued(read, origins, tmp_path / "r")
    assert (settings.time_s, settings.trials, settings.refine) == (None, 5, 0)


@pytest.mark.parametrize("given", [{"seed": 0}, {"backbone": "resnet18"}, {"plans": ["se"]}, {"sampler": "tpe"}])
def test_with_anything_that_defines_a_search_nothing_is_taken_over(folder, given):
    read, origins = read_settings(given)
    assert continued(read, origins, folder) == read


def test_without_a_run_nothing_is_taken_over(tmp_path):
    read, origins = read_settings({"trials": 5})
    assert continued(read, origins, None) == read
    assert continued(read, origins, tmp_path / "new") == read


def test_given_plans_are_extended_with_further_plans_and_seeds(tmp_path):
    given = {"evaluate": score, "out": tmp_path / "r"}
    nb.search(plans=["se"], seeds=2, backbone="test_resnet", objectives=OBJECTIVES, **given)
    run = nb.search(plans=["stage3=eca"], seeds=3, **given)
    assert set(run.finalists()["seeds"]) == {3}
    assert len(run.finalists()) == 3


def test_code_of_others_is_not_run(folder, monkeypatch):
    monkeypatch.setattr("nasbench.runs.sources.Sources.fault", "it is not trusted")
    read, origins = read_settings({"trials": 5})
    with pytest.raises(RunError, match=r"not trusted here.*whole command"):
        continued(read, origins, folder)
