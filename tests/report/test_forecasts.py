"""Forecast figures of the report: the numbers against hand-worked ones, kept as CSV, and the test split read once."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import nasbench as nb
from nasbench.report import forecasts as fc
from nasbench.report.formatting import BARE_NAME, plan_words
from nasbench.report.trained_models import TrainedModels
from nasbench.runs.run import load_run
from nasbench.runs.trainings import trainings_of
from nasbench.tasks import ForecastingTask, naive_baselines
from nasbench.training.loop import evaluate

SPANS = {"train": (0, 60), "val": (60, 80), "test": (80, 100)}


class Constant(torch.nn.Module):
    """The same forecast for every window."""

    def __init__(self, horizon, series, value=0.0):
        super().__init__()
        self.shape, self.value = (horizon, series), value

    def forward(self, x):
        return torch.full((len(x), *self.shape), self.value)


def line_task(columns=2, horizon=3, lookback=5):
    """Series d rises by d + 1 a row from 10·d; daily."""
    values = np.arange(100.0)[:, None] * np.arange(1, columns + 1) + 10.0 * np.arange(columns)
    names = [f"s{d}" for d in range(columns)]
    data = pd.DataFrame(values, index=pd.date_range("2020-01-01", periods=100), columns=names)
    return ForecastingTask("lines", data, SPANS, lookback=lookback, horizon=horizon)


@pytest.fixture(scope="module")
def task():
    return line_task()


@pytest.fixture(scope="module")
def data(task):
    models = {BARE_NAME: Constant(3, 2), fc.WINNER: Constant(3, 2, 1.0)}
    return fc.forecast_data(task, models, {BARE_NAME: "{}", fc.WINNER: '{"input": "se"}'})


def test_errors_by_hand(task, data):
    """18 windows begin at rows 80 to 97. Scaled, both series are (row - 29.5) / s with s the deviation of 0..59."""
    s = np.arange(60).std()
    table = data.by_step.set_index(["forecast", "step"])
    for step in (1, 2, 3):
        truth = (np.arange(80, 98) + step - 1 - 29.5) / s
        assert table.loc[(BARE_NAME, step), "mse"] == pytest.approx((truth**2).mean())
        assert table.loc[(fc.WINNER, step), "mae"] == pytest.approx(np.abs(1 - truth).mean())
        assert table.loc[("last value", step), "mae"] == pytest.approx(step / s)
        assert table.loc[("seasonal naive", step), "mse"] == pytest.approx((7 / s) ** 2, rel=1e-5)
    series = data.by_series.set_index(["forecast", "series"])
    for name in ("s0", "s1"):
        assert series.loc[("last value", name), "mae"] == pytest.approx(2 / s)
    assert dict(zip(data.by_step["forecast"], data.by_step["plan"], strict=True)) == {
        BARE_NAME: "{}", fc.WINNER: '{"input": "se"}', "last value": "", "seasonal naive": "",
    }  # fmt: skip


def test_means_over_steps_and_over_series_are_the_metrics(task, data):
    naive = naive_baselines(task, "test")
    for table in (data.by_step, data.by_series):
        means = table.groupby("forecast")[["mse", "mae"]].mean()
        for name, metrics in naive.items():
            assert means.loc[name, "mse"] == pytest.approx(metrics["mse"])
            assert means.loc[name, "mae"] == pytest.approx(metrics["mae"])


def test_windows_by_hand(task, data):
    """Windows 0, 6, 11 and 17 of 18; series s0, s0, s1, s1; all 5 rows of the input before, in the data's units."""
    rows = data.windows
    assert sorted(rows["window"].unique()) == [1, 2, 3, 4]
    for number, first, column in ((1, 80, 0), (2, 86, 0), (3, 91, 1), (4, 97, 1)):
        window = rows[rows["window"] == number]
        truth = window[window["what"] == "truth"]
        assert truth["step"].tolist() == [-4, -3, -2, -1, 0, 1, 2, 3]
        expected = [(first - 5 + i) * (column + 1) + 10 * column for i in range(8)]
        assert truth["value"].tolist() == pytest.approx(expected)
        assert truth["date"].iloc[5] == pd.Timestamp("2020-01-01") + pd.Timedelta(days=first)
        assert set(window["series"]) == {f"s{column}"}
        last = window[window["what"] == "last value"]
        assert last["step"].tolist() == [1, 2, 3]
        assert last["value"].tolist() == pytest.approx([expected[4]] * 3, rel=1e-5)
        bare = window[window["what"] == BARE_NAME]["value"]
        assert bare.tolist() == pytest.approx([task.mean[column]] * 3)


def test_a_short_horizon_keeps_a_tail_and_few_windows_are_all_shown():
    tiny = line_task(1, horizon=1, lookback=30)
    windows = fc.forecast_data(tiny, {BARE_NAME: Constant(1, 1)}, {BARE_NAME: "{}"}).windows
    assert windows[(windows["window"] == 1) & (windows["what"] == "truth")]["step"].tolist() == list(range(-11, 2))
    long = line_task(1, horizon=19, lookback=5)
    windows = fc.forecast_data(long, {BARE_NAME: Constant(19, 1)}, {BARE_NAME: "{}"}).windows
    assert sorted(windows["window"].unique()) == [1, 2]


def test_a_round_trip_through_csv(data, tmp_path):
    assert fc.load_data(tmp_path) is None
    fc.save_data(data, tmp_path / "figures")
    back = fc.load_data(tmp_path / "figures")
    assert back is not None
    for name in ("windows", "by_step", "by_series"):
        got, expected = getattr(back, name), getattr(data, name).reset_index(drop=True)
        pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    assert back.plans == data.plans == {BARE_NAME: "{}", fc.WINNER: '{"input": "se"}'}


def test_many_series_show_those_that_differ_most():
    """Of 30 series the two with the smallest difference, 0 and 1, and four more are left out."""
    names = [f"s{i}" for i in range(30)]
    bare = pd.DataFrame({"forecast": BARE_NAME, "plan": "{}", "series": names, "mse": 5.0, "mae": 1.0})
    winner = bare.assign(forecast=fc.WINNER, plan="x", mse=[5 + i * (-1) ** i / 10 for i in range(30)])
    steps = bare.iloc[:1].assign(step=1)
    data = fc.ForecastData(
        pd.DataFrame(), pd.concat([steps, steps.assign(forecast=fc.WINNER)]), pd.concat([bare, winner])
    )
    assert sorted(fc.series_shown(data), key=lambda n: int(n[1:])) == names[6:]


def test_figures_show_the_data(data):
    windows = fc.draw_windows(data)
    assert len(windows.axes) == 4
    labels = [line.get_label() for line in windows.axes[0].lines][:4]
    assert labels == ["truth", "seasonal naive", BARE_NAME, fc.WINNER]
    assert windows.axes[0].lines[0].get_ydata().tolist() == [75, 76, 77, 78, 79, 80, 81, 82]
    assert windows.axes[2].get_title(loc="left") == "s1, from 2020-04-01"
    mse, mae = fc.draw_by_step(data).axes
    for axes, metric in ((mse, "mse"), (mae, "mae")):
        line = next(line for line in axes.lines if line.get_label() == fc.WINNER)
        expected = data.by_step.query("forecast == @fc.WINNER")[metric].tolist()
        assert line.get_ydata().tolist() == expected
    left, _ = fc.draw_by_series(data).axes
    assert [label.get_text() for label in left.get_yticklabels()] == fc.series_shown(data)
    assert left.yaxis_inverted()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A real search over dlinear: the gated average of a wave that is noise for the most part."""
    folder = tmp_path_factory.mktemp("forecasts")
    draw = np.random.default_rng(0)
    t = np.arange(400)
    values = {name: np.sin(2 * np.pi * t / 24 + i) + 0.5 * draw.normal(size=400) for i, name in enumerate("ab")}
    pd.DataFrame(values, index=pd.date_range("2020", periods=400, freq="h")).to_csv(
        folder / "d.csv", index_label="date"
    )
    return nb.search(
        {"variants": ["eca", "depthwise_separable", "sk"], "slots": ["input", "seasonal"]},
        backbone="dlinear", task=f"csv:{folder / 'd.csv'}", lookback=30, horizon=8, trials=6, seeds=1,
        training={"epochs": 1}, latency_s=0.0, sampler="random", out=folder / "run",
    )  # fmt: skip


def test_the_figures_of_a_run_agree_with_evaluation(run):
    """The means over steps are what `evaluate` gives on the test split for the same weights."""
    models = TrainedModels(run)
    pictures = fc.forecast_figures(run, models)
    assert [p.caption.partition(".")[0] for p in pictures] == [
        "Forecasts and truth", "Error by step of the horizon", "Error by series",
    ]  # fmt: skip
    for name in ("forecast-windows", "forecast-error-by-step", "forecast-error-by-series"):
        for ending in ("svg", "png", "pdf", "csv"):
            assert (run.path / "figures" / f"{name}.{ending}").stat().st_size > 200
    by_step = pd.read_csv(run.path / "figures" / "forecast-error-by-step.csv", keep_default_na=False)
    means = by_step.groupby("forecast")[["mse", "mae"]].mean()
    best = run.front().iloc[0]
    assert best["plan"] != "{}"  # else this test shows less than it should
    assert plan_words(best["plan"]) in pictures[0].caption
    plans = dict(zip(by_step["forecast"], by_step["plan"], strict=True))
    assert plans == {BARE_NAME: "{}", fc.WINNER: best["plan"], "last value": "", "seasonal naive": ""}
    task = models.task
    for name, number in ((BARE_NAME, 0), (fc.WINNER, best["number"])):
        metrics, _ = evaluate(run.build(number), task, "test")
        assert means.loc[name].to_dict() == pytest.approx({k: metrics[k] for k in ("mse", "mae")}, rel=1e-5)


def test_the_numbers_are_computed_once(run, monkeypatch):
    first = fc.data_of_run(run, TrainedModels(run))
    assert first is not None
    monkeypatch.setattr(TrainedModels, "load", lambda *a: pytest.fail("a model was loaded again"))
    again = fc.data_of_run(load_run(run.path), TrainedModels(run))
    assert again is not None
    pd.testing.assert_frame_equal(again.by_series, first.by_series.reset_index(drop=True), check_dtype=False)


def test_another_winner_is_computed_anew(run):
    fc.data_of_run(run, TrainedModels(run))
    file = run.path / "figures" / "forecast-error-by-step.csv"
    right = file.read_text()
    table = pd.read_csv(file, keep_default_na=False)
    table.assign(plan=table["plan"].replace("{}", "old"), mse=0.0).to_csv(file, index=False)
    fc.data_of_run(run, TrainedModels(run))
    assert file.read_text() == right


def test_nothing_is_shown_where_no_weights_were_kept(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "r", ignore=shutil.ignore_patterns("models", "figures"))
    other = load_run(tmp_path / "r")
    assert fc.forecast_figures(other, TrainedModels(other)) == []


def test_a_run_that_forecasts_nothing_has_no_such_figures(tmp_path):
    other = nb.search(
        {"variants": ["se"], "slots": ["stage1"]}, backbone="test_resnet",
        evaluate=lambda plan, seed: {"accuracy": 0.5 + len(plan)}, objectives={"accuracy": "maximize"},
        trials=2, seeds=1, sampler="random", out=tmp_path / "r",
    )  # fmt: skip
    assert fc.forecast_figures(other, TrainedModels(other)) == []


def test_windows_that_overlap_depend_on_each_other(run):
    """Neighbours share all but one step. The statistics read how many of them do (`nasbench.evidence.items`)."""
    recorded = trainings_of(run)
    assert run.block == 8
    assert {plan.trainings.block for plan in recorded.all_plans} == {8}
    assert np.isfinite(recorded.noise.item_freedom)


def test_long_names_of_series_leave_room_for_the_plots(data):
    renamed = dataclasses.replace(
        data,
        windows=data.windows.replace({"series": {"s0": "z" * 120, "s1": "$" * 90}}),
        by_series=data.by_series.replace({"series": {"s0": "z" * 120, "s1": "$" * 90}}),
    )
    left, _ = fc.draw_by_series(renamed).axes
    assert {len(tick.get_text().replace("\\", "")) for tick in left.get_yticklabels()} == {28}
    figure = fc.draw_windows(renamed)
    figure.draw_without_rendering()
    titles = [axes.title.get_window_extent() for axes in figure.axes[:2]]
    assert not titles[0].overlaps(titles[1])
