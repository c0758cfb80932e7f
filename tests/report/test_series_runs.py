"""Runs that classify series of unequal lengths, from end to end: search, report, export, training, table."""

import json
import runpy
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix

import nasbench as nb
from nasbench import cli
from nasbench.backbones import create_backbone, slots
from nasbench.backbones.insertion import insert
from nasbench.library.plan import Plan
from nasbench.measurement.costs import measure
from nasbench.measurement.costs.plan_costs import PlanCosts
from nasbench.report.confusion import confusion_data
from nasbench.report.export import export_trial
from nasbench.study.full_training import train_fully
from tests.tasks.test_ts_reader import written

PLAN = {"stage2": "dilated_conv_block"}
UNEQUAL = {"equalLength": "false", "seriesLength": None, "classLabel": "true up down flat"}
TRAINING = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2}


def rows(count, seed):
    """Items of 5 to 9 steps of two series: rising, falling or flat, with noise."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        slope, steps = (1, -1, 0)[number % 3], int(rng.integers(5, 10))
        both = slope * np.linspace(-1, 1, steps) + rng.normal(scale=0.2, size=(2, steps))
        lines.append(
            ":".join([",".join(f"{x:.4f}" for x in one) for one in both] + [("up", "down", "flat")[number % 3]])
        )
    return tuple(lines)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    return [written(folder / f"{name}.ts", rows=rows(n, n), **UNEQUAL) for name, n in (("train", 60), ("test", 30))]


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    return nb.search(
        plans=[PLAN], task=f"series:{files[0]},{files[1]}", backbone="resnet1d", seeds=1, latency_s=0, controls=False,
        keep="all", training=TRAINING, out=tmp_path_factory.mktemp("runs") / "run",
    )  # fmt: skip


def test_a_search_and_its_report(run):
    trials = run.trials()
    assert trials["state"].tolist() == ["complete", "complete"]
    assert {"accuracy", "balanced_accuracy", "loss"} <= set(trials.columns)
    assert "kernels (8, 5, 3)" not in str(run.config["task"]["notes"])  # 9 steps are enough for them
    page = run.report().read_text()
    assert "Without a model" in page
    assert "1-nearest neighbour" in page
    assert "all of them given" in page  # nothing was sampled
    shown = pd.read_csv(run.path / "figures" / "confusion.csv")
    task, model = run.task(), run.build(0)
    x, y = next(iter(task.eval_batches("test", 30)))
    with torch.no_grad():
        expected = confusion_matrix(y, model(x).argmax(1), labels=range(3))
    bare = shown[shown["model"] == "bare"]
    assert bare["items"].to_numpy().reshape(3, 3).tolist() == expected.tolist()
    assert confusion_data(task, {"bare": model}, task.classes, "cpu").equals(bare)


def test_an_export_gives_the_same_result_on_a_real_item(run, tmp_path, capsys, monkeypatch):
    out = export_trial(run, 1, tmp_path / "out", onnx=True)
    config = json.loads((out / "config.json").read_text())
    assert (config["num_classes"], config["padded"], config["kind"]) == (3, 1, "series-classification")
    assert "are NaN" in (out / "README.md").read_text()
    monkeypatch.syspath_prepend(out)
    monkeypatch.setattr(sys, "argv", ["example.py"])
    try:
        runpy.run_path(str(out / "example.py"))
    finally:
        sys.modules.pop("model")
    told = capsys.readouterr().out.splitlines()
    assert "true class up; probabilities differ from those of the original model by at most" in told[-1]
    assert float(told[-1].split()[-1]) < 1e-5


def test_a_full_training_and_a_comparison(run, tmp_path):
    full = train_fully(run, 1, epochs=3)
    assert full is not None
    given = {**run.settings.model_dump(include={"task", "backbone"}), "latency_s": 0, "controls": False}
    other = nb.search(plans=["eca"], seeds=1, training=TRAINING, out=tmp_path / "other", **given)
    assert cli.main(["compare", str(run.path), str(other.path), "--out", str(tmp_path / "compared")]) == 0
    assert cli.main(["suggest", str(run.path)]) in (0, 5)


def test_a_table_and_a_search_in_it(files, tmp_path, capsys):
    space = {"slots": ["stage1"], "compositions": ["none", "a"], "variants": ["eca"]}
    (tmp_path / "space.yaml").write_text(json.dumps(space))
    table = tmp_path / "table.parquet"
    given = ["--backbone", "ts2vec", "--task", f"series:{files[0]}", "--set", "epochs=1", "--seeds", "1"]
    assert cli.main(["tabulate", str(tmp_path / "space.yaml"), *given, "--out", str(table)]) == 0
    found = nb.search(task=f"table:{table}", trials=2, refine=0, out=tmp_path / "replayed")
    assert found.trials()["accuracy"].between(0, 1).all()


def test_host_commands_and_their_errors(files, capsys):
    task = f"series:{files[0]},{files[1]}"
    assert cli.main(["slots", "ts2vec", "--task", task, "--json"]) == 0
    sizes = [row["size"] for row in json.loads(capsys.readouterr().out)["data"]]
    assert sizes[0] == [9]
    assert cli.main(["measure", "resnet1d", "--task", task, "--plan", "stage1=se", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["data"]
    assert told["rows"][1]["exact"]
    for arguments, words in (
        (["slots", "patchtst", "--task", task], "cannot leave padded steps out; backbones that can: inception_time"),
        (["slots", "resnet18", "--task", task], "needs one of"),
        (["slots", "resnet1d", "--task", "digits"], "leave --task out for a classification task"),
        (["search", "--task", task, "--lookback", "3"], "does not use lookback"),
        (["search", "--task", "series:none.ts"], "no file of series at none.ts"),
    ):
        assert cli.main(arguments) == 4
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["inception_time", "resnet1d", "patchtst", "ts2vec", "mtgnn"])
def test_costs_of_parts_are_those_of_the_whole(name):
    size = (8, 8)
    host = create_backbone(name, input_size=size, num_classes=10)
    places = slots(host, size)
    plan = Plan.of({slot.name: "se" for slot in places if "block" not in slot.name})
    parts = PlanCosts(host, places, input_size=size, identity_init=False)(plan)
    whole = measure(insert(host, plan, input_size=size, identity_init=False), input_size=size)
    for cost in ("params", "macs", "elementwise_flops", "activations"):
        assert getattr(parts, cost) == getattr(whole, cost), cost
