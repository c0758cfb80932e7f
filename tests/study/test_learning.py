"""Searches without labels: the settings, the identity of a run, and what it records and leaves behind."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

import nasbench as nb
from nasbench.errors import InputError, RunError, UnknownNameError
from nasbench.runs.settings import SearchSettings
from nasbench.study.problem import make_problem

SERIES = {"task": "digits-rows", "backbone": "ts2vec"}
SHORT = {"training": {"epochs": 1, "batch_size": 64, "validate_every": 1}, "latency_s": 0, "seeds": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A search with a pretext over one plan."""
    out = tmp_path_factory.mktemp("learn") / "run"
    return nb.search(**SERIES, **SHORT, learn="ts2vec(alpha=0.50)", plans=["se"], out=out, keep="all")


def test_the_row_of_a_trial_has_the_metrics_of_features(run):
    row = run.trials().iloc[0]
    assert row["state"] == "complete"
    assert 0.5 < row["knn_accuracy"] < row["probe_accuracy"] < 1
    assert row["pretext_loss"] > 0
    assert 1 < row["rank_me"] <= 128
    assert run.metric == "knn_accuracy"
    assert run.directions == {"knn_accuracy": "maximize", "macs": "minimize"}


def test_curves_and_items_are_recorded(run):
    (line,) = run.evaluations()[0].history
    assert {"train_loss", "knn_accuracy", "pretext_loss", "feature_spread", "rank_me"} <= set(line)
    plan = run.trials()["plan_hash"].iloc[1]
    items = run.folder.load_items(plan, 0)
    assert items.mean() == pytest.approx(run.trials()["knn_accuracy"].iloc[1])


def test_the_canonical_pretext_is_in_the_identity_and_the_default_is_not(run):
    assert run.config["identity"]["learn"] == "ts2vec"
    assert run.settings.learn == "ts2vec"
    supervised = make_problem(SearchSettings(**SERIES, plans=("se",), training={"epochs": 1}))
    assert "learn" not in supervised.identity
    with pytest.raises(RunError, match="learn: 'ts2vec' there"):
        nb.search(**SERIES, **SHORT, learn="ts2vec(alpha=0.2)", plans=["se"], out=run.path)


def test_the_stored_weights_and_the_costs_are_those_of_the_host(run):
    model = run.build(1)
    with safe_open(next((run.path / "models").glob("trial-1*.safetensors")), "pt") as file:
        names = set(file.keys())
    assert names == set(model.state_dict())
    assert run.trials()["params"].iloc[1] == sum(p.numel() for p in model.parameters())
    bare = make_problem(SearchSettings(**SERIES, plans=("se",), training={"epochs": 1})).evaluator
    assert run.trials()["macs"].iloc[0] == bare.known(nb.Plan.of(None))["macs"]
    assert model(torch.zeros(2, *run.task().input_size)).shape == (2, 10)


def test_the_report_opens_the_test_split_with_the_same_metrics(run):
    page = nb.build_report(run).read_text(encoding="utf-8")
    assert "learnt without labels by ts2vec" in page
    stored = (run.path / "test.json").read_text(encoding="utf-8")
    assert '"knn_accuracy"' in stored
    assert '"accuracy"' not in stored


@pytest.mark.parametrize(
    ("learn", "error", "message"),
    [
        ("simclrr", UnknownNameError, "did you mean 'simclr'"),
        ("se", InputError, "is no pretext; allowed: supervised, byol"),
        ("simclr(temperature=-1)", InputError, "temperature is -1; allowed: a number, at least 0.001"),
        ("ts2vec >> se", InputError, "give it as `learn=`"),
        ("simclr", InputError, "pretexts for series: comet, cpc"),
    ],
)
def test_a_wrong_pretext_is_told_before_anything_is_written(learn, error, message, tmp_path):
    with pytest.raises(error, match=message):
        nb.search(**SERIES, learn=learn, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_host_that_does_not_fit(tmp_path):
    with pytest.raises(InputError, match=r"does not fit backbone 'patchtst'.*fit: inception_time"):
        nb.search(task="digits-rows", backbone="patchtst", learn="ts2vec", out=tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"evaluate": lambda plan: {"f1": 1.0}, "objectives": {"f1": "maximize"}}, "a function or table trains no"),
        ({"objectives": ["accuracy"]}, "did you mean 'knn_accuracy'"),
        ({"proxies": ["zico"]}, "zico needs the loss"),
        ({"training": {"compile": True}}, "compile: not with learn"),
    ],
)
def test_what_does_not_go_with_a_pretext(given, message, tmp_path):
    with pytest.raises(InputError, match=message):
        nb.search(**SERIES, learn="ts2vec", out=tmp_path / "run", **given)


def test_a_pretext_goes_into_no_slot():
    with pytest.raises(InputError, match="simclr is a pretext"):
        nb.insert("test_resnet", "eca >> simclr")
    with pytest.raises(InputError, match="simclr is a pretext"):
        nb.insert("test_resnet", {"stage1": "simclr"})
