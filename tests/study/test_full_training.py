"""What comes after a search: a plan trained to a full budget, and runs compared."""

import json

import numpy as np
import pytest

import nasbench as nb
from nasbench import cli
from nasbench.errors import InputError
from nasbench.report.comparison import compare
from nasbench.study.full_training import train_fully

SPACE = {"variants": ["se", "eca"], "slots": ["stage1"], "compositions": ["none", "a"]}
COMMON = {"backbone": "test_resnet", "task": "digits", "trials": 3, "size": 32, "latency_s": 0, "keep": "all"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_data):
    folder = tmp_path_factory.mktemp("after")
    return [
        nb.search(SPACE, **COMMON, seeds=2, training={"epochs": epochs}, out=folder / f"epochs{epochs}")
        for epochs in (1, 2)
    ]


def test_a_plan_is_brought_to_a_full_budget(runs):
    run = runs[0]
    number = int(run.trials()["number"].max())
    told = []
    done = train_fully(run, number, epochs=2, on_epoch=lambda title, line: told.append((title, line["epoch"])))
    assert [(row.model, row.seed) for row in done.table.itertuples()] == [
        (name, seed) for name in ("bare", f"trial {number}") for seed in (0, 1)
    ]
    assert told == [(f"{row.model}, seed {row.seed}", epoch) for row in done.table.itertuples() for epoch in (1, 2)]
    by_model = done.table.groupby("model")["accuracy"].mean()
    assert done.difference.difference == pytest.approx(by_model[f"trial {number}"] - by_model["bare"])
    assert done.difference.low < done.difference.difference < done.difference.high
    # the protocol is the run's own: a search with that many epochs gives the bare backbone the same figure
    other = runs[1].trials().query("plan == '{}' and seed == 0")["accuracy"].item()
    assert done.table.query("model == 'bare' and seed == 0")["accuracy"].item() == pytest.approx(other)


def test_what_is_there_is_not_trained_again(runs):
    number = int(runs[0].trials()["number"].max())
    train_fully(runs[0], number, epochs=2)
    told = []
    again = train_fully(runs[0], number, epochs=2, on_epoch=lambda *line: told.append(line))
    assert told == []
    assert len(again.table) == 4


def test_the_bare_backbone_alone_and_one_seed(runs, capsys):
    words = ["train", str(runs[0].path), "--trial", "0", "--epochs", "1", "--seeds", "1", "--json"]
    assert cli.main(words) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert [row["model"] for row in data["rows"]] == ["bare"]
    assert data["difference"] == 0
    assert cli.main(["train", str(runs[0].path), "--trial", "77", "--epochs", "1"]) == 4


def test_runs_compared(runs, tmp_path, capsys):
    found = compare(runs)
    assert set(found.fronts["run"]) == {"epochs1", "epochs2"}
    bars = found.fronts.query("plan != '{}'")
    assert bars[["difference", "difference_low", "difference_high"]].notna().all(axis=None)
    assert found.settings.set_index("setting").loc["training.epochs"].tolist() == ["1", "2"]
    same = found.pairs.query("what == 'same plan' and first_plan == '{}'").iloc[0]
    means = [run.trials().query("plan == '{}'")["accuracy"].mean() for run in runs]
    assert same["difference"] == pytest.approx(means[1] - means[0])
    assert same["seeds"] == 2
    assert same["low"] < same["difference"] < same["high"]
    assert cli.main(["compare", *(str(run.path) for run in runs), "--out", str(tmp_path / "c")]) == 0
    assert "training.epochs" in capsys.readouterr().out
    names = {file.name for file in (tmp_path / "c").iterdir()}
    assert {"fronts.csv", "differences.csv", "settings.csv", "fronts-accuracy-macs.svg"} <= names


def test_what_cannot_be_compared(runs, tmp_path, capsys):
    with pytest.raises(InputError, match="at least two"):
        compare(runs[:1])
    with pytest.raises(InputError, match="given twice"):
        compare([runs[0], runs[0]])
    other = nb.search(
        SPACE, backbone="test_resnet", trials=2, objectives={"score": "maximize"}, out=tmp_path / "function",
        evaluate=lambda plan: {"score": float(len(plan))},
    )  # fmt: skip
    with pytest.raises(InputError, match="no common metric"):
        compare([runs[0], other])
    small = nb.search(SPACE, **{**COMMON, "size": 40, "trials": 1}, seeds=1, training={"epochs": 1}, out=tmp_path / "s")
    found = compare([runs[0], small])
    assert found.pairs.empty
    assert "different data" in found.notes[0]
    assert cli.main(["compare", str(runs[0].path)]) == 4
    assert not np.isnan(found.fronts["accuracy"]).any()
