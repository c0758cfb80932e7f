"""Covariates of time: the calendar, how a task gives it, and who uses it."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

import nasbench as nb
from nasbench.backbones import STEMS, create_backbone, takes_covariates
from nasbench.runs.settings import read_settings
from nasbench.study.problem import make_problem
from nasbench.tasks import ForecastingTask, apply, create_task
from nasbench.tasks._series import calendar
from nasbench.tasks.recipe import Recipe
from nasbench.training.loop import evaluate, train

SPANS = {"train": (0, 300), "val": (300, 360), "test": (360, 420)}


def task(covariates=True, values=None, rows=420, lookback=8):
    """One series at hours; noise by default."""
    values = np.random.default_rng(0).normal(size=rows) if values is None else values
    frame = pd.DataFrame({"a": values}, index=pd.date_range("2020-01-01", periods=rows, freq="h"))
    return ForecastingTask("x", frame, SPANS, lookback=lookback, horizon=4, covariates=covariates)


def test_the_calendar_by_hand():
    """The first and last hour, a Monday, a Sunday, the last day of a leap year."""
    dates = pd.to_datetime(["2024-01-01 00:00", "2023-01-01 23:00", "2024-12-31 12:00"])
    expected = [[-0.5, -0.5, -0.5, -0.5], [0.5, 0.5, -0.5, -0.5], [12 / 23 - 0.5, 1 / 6 - 0.5, 0.5, 0.5]]
    np.testing.assert_allclose(calendar(dates), expected, atol=1e-12)


def test_a_window_comes_with_the_calendar_of_its_rows_and_of_its_targets():
    with_marks, without = task(), task(covariates=False)
    ((values, marks), y), *_ = with_marks.eval_batches("val", 3)
    x, plain_y = next(without.eval_batches("val", 3))
    assert torch.equal(values, x)
    assert torch.equal(y, plain_y)
    assert marks.shape == (3, 12, 4)
    for i in range(3):  # the first target of the first window is row 300
        rows = pd.date_range("2020-01-01", periods=420, freq="h")[292 + i : 304 + i]
        np.testing.assert_allclose(marks[i], calendar(rows), atol=1e-6)
    ((values, marks), y) = next(with_marks.train_batches(16, seed=0, epoch=1))
    assert (values.shape, marks.shape, y.shape) == ((16, 8, 1), (16, 12, 4), (16, 4, 1))


def test_they_are_part_of_the_identity_of_the_data_only_where_asked_for():
    assert "covariates" not in task(covariates=False).describe()
    assert task().describe()["covariates"] == ["hour of day", "day of week", "day of month", "day of year"]
    assert task().model_kwargs == {"horizon": 4, "covariates": 4}
    assert task(covariates=False).model_kwargs == {"horizon": 4}


@pytest.mark.parametrize("decoder_layers", [0, 1])
def test_what_only_the_clock_tells_is_learned_with_them(decoder_layers):
    """One value of a daily cosine does not say whether it rises: the sine's part, 0.39 of the variance, is lost."""
    values = np.cos(2 * np.pi * np.arange(420) / 24)
    errors = {}
    for covariates in (True, False):
        data = task(covariates, values, lookback=1)
        torch.manual_seed(0)
        model = STEMS.get("informer")(
            lookback=1, horizon=4, series=1, layers=1, decoder_layers=decoder_layers, dropout=0.0, width=16,
            covariates=4 * covariates,
        )  # fmt: skip
        trained = train(model, data, Recipe(epochs=6, batch_size=16, learning_rate=1e-2), seed=0)
        errors[covariates] = trained.metrics["mse"]
    assert errors[True] < 0.2
    assert errors[False] > 0.35


@pytest.mark.parametrize(("name", "last"), [("informer", 8), ("pyraformer", 9)])
def test_the_stems_that_take_them_use_them(name, last):
    """The direct heads hear the marks of the lookback; pyraformer's end token those of the step after it as well."""
    torch.manual_seed(0)
    model = create_backbone(name, input_size=(8, 1), horizon=4, covariates=4).eval()
    marks = torch.zeros(1, 12, 4, requires_grad=True)
    x = torch.randn(1, 8, 1)
    (heard,) = torch.autograd.grad(model(x, marks).sum(), marks)
    assert heard[0].abs().sum(1).gt(0).tolist() == [True] * last + [False] * (12 - last)
    with torch.no_grad():
        assert torch.equal(model(x), model(x, torch.zeros(1, 12, 4)))  # what is left out is zeros, and costs the same


def test_the_decoder_of_informer_hears_the_marks_of_the_future():
    torch.manual_seed(0)
    model = STEMS.get("informer")(lookback=8, horizon=4, series=1, decoder_layers=1, covariates=4).eval()
    marks = torch.zeros(1, 12, 4, requires_grad=True)
    (heard,) = torch.autograd.grad(model(torch.randn(1, 8, 1), marks).sum(), marks)
    assert heard[0].abs().sum(1).gt(0).all()


def test_stems_that_take_none_are_trained_without_them():
    assert takes_covariates("informer")
    assert not takes_covariates("dlinear")
    data = task()
    torch.manual_seed(0)
    model = create_backbone("dlinear", input_size=data.input_size, **data.model_kwargs)
    with torch.no_grad():
        (inputs, _), *_ = data.eval_batches("val", 3)
        assert torch.equal(apply(model, inputs), model(inputs[0]))
    metrics, per_window = evaluate(model, data, "val")
    plain, _ = evaluate(model, task(covariates=False), "val")
    assert metrics == plain
    recipe = Recipe(epochs=1, optimizer="sgd", learning_rate=0.1)  # steps as long as the gradient, unlike AdamW's
    runs = [train(copy.deepcopy(model), task(given), recipe, seed=0) for given in (True, False)]
    assert runs[0].metrics == runs[1].metrics != metrics
    assert runs[0].history[0]["train_loss"] == runs[1].history[0]["train_loss"]
    assert len(per_window) == data.splits["val"]


def test_a_search_with_covariates(tmp_path):
    """Plug-ins and costs work as without; a stem that takes none says so in the notes."""
    hours = pd.date_range("2020-01-01", periods=420, freq="h")
    pd.DataFrame({"date": hours, "a": np.sin(np.arange(420) / 5)}).to_csv(tmp_path / "data.csv", index=False)
    given = {"task": f"csv:{tmp_path / 'data.csv'}", "lookback": 8, "horizon": 4, "trials": 2, "seeds": 1}
    given |= {"training": {"epochs": 1}, "sampler": "random", "latency_s": 0, "covariates": True}
    run = nb.search(backbone="informer", out=tmp_path / "informer", **given)
    assert set(run.trials()["state"]) == {"complete"}
    assert run.config["settings"]["covariates"] is True
    settings, _ = read_settings({**given, "backbone": "patchtst"})
    assert "patchtst takes no covariates of time" in " ".join(make_problem(settings).task.notes)
    assert create_task(given["task"], lookback=8, horizon=4).notes == ()
