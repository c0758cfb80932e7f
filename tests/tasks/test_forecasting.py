"""Forecasting tasks: windows, scales, leakage, metrics worked out by hand, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasbench.errors import DataError, InputError
from nasbench.tasks import SPLITS, ForecastingTask, create_task, naive_baselines, naive_forecasts
from nasbench.tasks import _series as series
from nasbench.tasks.recipe import Recipe
from nasbench.tasks.series_steps import season
from nasbench.training.loop import train

SPANS = {"train": (0, 70), "val": (70, 80), "test": (80, 100)}


def frame(rows=100, columns=2, freq="D", seed=0):
    values = np.random.default_rng(seed).normal(size=(rows, columns)).cumsum(axis=0) + 50
    index = pd.date_range("2020-01-01", periods=rows, freq=freq)
    return pd.DataFrame(values, index=index, columns=[f"s{i}" for i in range(columns)])


def write(path, table, **options):
    table.to_csv(path, index_label="date", **options)
    return path


def windows(task, split, batch_size=7):
    batches = list(task.eval_batches(split, batch_size))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


class TestWindows:
    @given(
        rows=st.tuples(st.integers(8, 40), st.integers(4, 20), st.integers(4, 20)),
        lookback=st.integers(1, 6),
        horizon=st.integers(1, 4),
    )
    @settings(max_examples=30, deadline=None)
    def test_every_target_inside_its_span_is_there_once(self, rows, lookback, horizon):
        a, b, c = np.cumsum(rows).tolist()
        if rows[0] < lookback + horizon:
            return
        spans = {"train": (0, a), "val": (a, b), "test": (b, c)}
        task = ForecastingTask("t", frame(c), spans, lookback=lookback, horizon=horizon)
        n_train, n_val, n_test = rows
        counts = (n_train - lookback - horizon + 1, n_val - horizon + 1, n_test - horizon + 1)
        assert tuple(task.splits[s] for s in SPLITS) == counts
        scaled = (task.values - task.values[:a].mean(0)) / task.values[:a].std(0)
        for split, (start, end) in spans.items():
            targets = [t for t in range(start, end) if t + horizon <= end and t >= lookback]
            x, y = windows(task, split)
            assert len(x) == len(targets) == task.splits[split]
            np.testing.assert_allclose(x, [scaled[t - lookback : t] for t in targets], atol=1e-5)
            np.testing.assert_allclose(y, [scaled[t : t + horizon] for t in targets], atol=1e-5)

    def test_training_batches_are_the_windows_shuffled(self):
        task = ForecastingTask("t", frame(), SPANS, lookback=5, horizon=3)
        x, y = (torch.cat(parts) for parts in zip(*task.train_batches(16, seed=0, epoch=1), strict=True))
        ordered, _ = windows(task, "train")
        assert x.shape == (63, 5, 2)
        assert y.shape == (63, 3, 2)
        assert not torch.equal(x, ordered)
        assert sorted(map(str, x.tolist())) == sorted(map(str, ordered.tolist()))

    def test_augmentation_is_refused(self):
        task = ForecastingTask("t", frame(), SPANS, lookback=5, horizon=3)
        with pytest.raises(InputError, match=r"augmentation=flip: .*, a forecasting task, takes none"):
            next(task.train_batches(8, seed=0, epoch=1, augmentation="flip"))

    @pytest.mark.parametrize("name", ["lookback", "horizon"])
    @pytest.mark.parametrize("value", [0, -1, 2.5, True])
    def test_lengths_are_whole_and_positive(self, name, value):
        with pytest.raises(InputError, match=f"{name} must be a whole number of rows, 1 or more"):
            ForecastingTask("t", frame(), SPANS, **{"lookback": 5, "horizon": 3, name: value})

    def test_the_longest_lengths_that_fit(self):
        task = ForecastingTask("t", frame(), SPANS, lookback=60, horizon=10)
        assert task.splits == {"train": 1, "val": 1, "test": 11}
        with pytest.raises(DataError, match=r"train has 70 rows and needs 71.*shorter --lookback or --horizon"):
            ForecastingTask("t", frame(), SPANS, lookback=61, horizon=10)
        with pytest.raises(DataError, match="val has 10 rows and needs 11"):
            ForecastingTask("t", frame(), SPANS, lookback=5, horizon=11)

    def test_one_row_in_one_row_out(self):
        task = ForecastingTask("t", frame(), SPANS, lookback=1, horizon=1)
        assert task.splits == {"train": 69, "val": 10, "test": 20}


class TestLeakage:
    def test_scales_come_from_the_training_span(self):
        data = frame()
        task = ForecastingTask("t", data, SPANS, lookback=5, horizon=3)
        x = torch.cat([task.scaled[:70]])
        assert torch.allclose(x.mean(0), torch.zeros(2), atol=1e-5)
        assert torch.allclose(x.std(0, correction=0), torch.ones(2), atol=1e-5)

    @pytest.mark.parametrize("changed", [70, 80, 93])
    def test_changing_the_future_changes_no_past_window_or_forecast(self, changed):
        data, other = frame(), frame()
        other.iloc[changed:] = 1e6
        before, after = (ForecastingTask("t", d, SPANS, lookback=5, horizon=3) for d in (data, other))
        for split in SPLITS:
            starts = before.starts[split]
            past = starts + 5 <= changed  # the input ends before the change
            assert bool(past.any()) == (SPANS[split][0] <= changed)
            assert torch.equal(windows(before, split)[0][past], windows(after, split)[0][past])
            for name, forecast in naive_forecasts(before, split).items():
                assert torch.equal(forecast[past], naive_forecasts(after, split)[name][past])

    @pytest.mark.parametrize("fill", ["linear", "forward"])
    def test_changing_the_test_span_changes_nothing_in_training(self, fill):
        data, other = frame(), frame()
        for d in (data, other):
            d.iloc[67:72, 0] = np.nan  # a gap over the end of the training span
            d.iloc[78:83, 1] = np.nan  # and one over the end of the validation span
        other.iloc[83:] = 1e6
        results = []
        for d in (data, other):
            task = ForecastingTask("t", d, SPANS, lookback=5, horizon=3, fill=fill)
            torch.manual_seed(0)
            model = Linear(5, 3)
            result = train(model, task, Recipe(epochs=2), seed=0)
            results.append((result.metrics, [h["train_loss"] for h in result.history], model.layer.weight.tolist()))
            np.testing.assert_array_equal(
                task.values[:80], ForecastingTask("t", data, SPANS, fill=fill, **SHORT).values[:80]
            )
        assert results[0] == results[1]

    def test_linear_fill_looks_at_no_later_span(self):
        data = frame()
        data.iloc[68:72, 0] = np.nan
        data.iloc[[10, 11], 1] = np.nan
        filled, counts = series.fill_gaps(data, SPANS, "linear")
        v = data.to_numpy()
        assert counts == {"train": 4, "val": 2, "test": 0}
        third = (v[12, 1] - v[9, 1]) / 3
        assert filled.iloc[[10, 11], 1].tolist() == pytest.approx([v[9, 1] + third, v[9, 1] + 2 * third])
        assert filled.iloc[68:70, 0].tolist() == [v[67, 0]] * 2  # no later value of the training span
        third = (v[72, 0] - v[67, 0]) / 3  # within validation the line starts at the filled value
        assert filled.iloc[70:72, 0].tolist() == pytest.approx([v[67, 0] + third, v[67, 0] + 2 * third])

    def test_forward_fill(self):
        data = frame()
        data.iloc[68:72, 0] = np.nan
        filled, _ = series.fill_gaps(data, SPANS, "forward")
        assert filled.iloc[68:72, 0].tolist() == [data.iloc[67, 0]] * 4


SHORT = {"lookback": 5, "horizon": 3}


class Linear(torch.nn.Module):
    """One map from lookback to horizon for all series."""

    def __init__(self, lookback, horizon):
        super().__init__()
        self.layer = torch.nn.Linear(lookback, horizon)

    def forward(self, x):
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


class TestMetrics:
    def task(self):
        """Two series: 0, 2, 4, ... (standard deviation s) and the constant 5; a season of one row."""
        values = np.stack([np.arange(100) * 2.0, np.full(100, 5.0)], axis=1)
        data = pd.DataFrame(values, index=pd.date_range("2000", periods=100, freq="YE"), columns=["up", "flat"])
        return ForecastingTask("t", data, SPANS, lookback=3, horizon=2)

    def test_by_hand(self):
        task = self.task()
        mean, s = 69.0, np.arange(0, 140, 2.0).std()
        assert task.mean.tolist() == [mean, 5.0]
        assert task.std.tolist() == pytest.approx([s, 1.0])  # a constant series is only centred
        assert task.naive_error.tolist() == [2.0, 0.0]

        def scaled(up, flat):
            return torch.tensor([[[(u - mean) / s, f - 5.0] for u, f in zip(up, flat, strict=True)]])

        y = torch.cat([scaled([10, 20], [5, 5]), scaled([30, 0], [5, 5])])
        f = torch.cat([scaled([13, 19], [5, 6]), scaled([30, 0], [5, 5])])
        metrics, per_item = task.evaluate(f, y)
        assert per_item == pytest.approx([(9 / s**2 + 1 / s**2 + 1) / 4, 0], rel=1e-5)
        assert metrics["mse"] == pytest.approx(per_item.mean())
        assert metrics["mae"] == pytest.approx((3 / s + 1 / s + 1) / 8, rel=1e-5)
        assert metrics["smape"] == pytest.approx(200 * (3 / 23 + 1 / 39 + 1 / 11) / 8, rel=1e-4)
        assert metrics["mase"] == pytest.approx((3 + 1) / 4 / 2, rel=1e-4)  # the constant series is left out

    def test_zero_over_zero_counts_as_zero(self):
        data = pd.DataFrame(np.zeros((100, 1)), index=pd.date_range("2000", periods=100), columns=["zero"])
        task = ForecastingTask("t", data, SPANS, lookback=3, horizon=2)
        assert "mase" not in task.metrics  # no series varies
        metrics, _ = task.evaluate(torch.zeros(4, 2, 1), torch.zeros(4, 2, 1))
        assert metrics == {"mse": 0.0, "mae": 0.0, "smape": 0.0}

    def test_loss_is_the_mse(self):
        f, y = torch.randn(6, 2, 2), torch.randn(6, 2, 2)
        task = self.task()
        assert float(task.loss(None, f, y)) == pytest.approx(task.evaluate(f, y)[0]["mse"], rel=1e-5)
        assert (task.metric, task.kind, task.model_kwargs) == ("mse", "forecasting", {"horizon": 2})
        assert task.input_size == (3, 2)
        assert set(task.metrics.values()) == {"minimize"}


class TestNaive:
    def test_forecasts_by_hand(self):
        data = frame(columns=1)  # days: a season of 7
        task = ForecastingTask("t", data, SPANS, lookback=3, horizon=9)
        assert task.season == 7
        forecasts = naive_forecasts(task, "val")
        scaled = task.scaled[:, 0]
        for window, first in enumerate(range(70, 72)):
            assert forecasts["last value"][window, :, 0].tolist() == [float(scaled[first - 1])] * 9
            week = scaled[first - 7 : first].tolist()
            assert forecasts["seasonal naive"][window, :, 0].tolist() == week + week[:2]

    def test_a_periodic_series_is_forecast_without_error(self):
        values = np.tile(np.arange(7.0), 20)[:100, None]
        data = pd.DataFrame(values, index=pd.date_range("2020", periods=100), columns=["week"])
        task = ForecastingTask("t", data, SPANS, lookback=14, horizon=5)
        baselines = naive_baselines(task, "test")
        assert baselines["seasonal naive"]["mse"] == 0
        assert baselines["last value"]["mse"] > 0.5
        assert set(baselines["last value"]) == {"mse", "mae", "smape"}  # the naive error that mase divides by is 0

    def test_no_season_before_the_first_windows(self):
        task = ForecastingTask("t", frame(), SPANS, lookback=3, horizon=2)
        assert set(naive_forecasts(task, "train")) == {"last value"}
        assert set(naive_forecasts(task, "test")) == {"last value", "seasonal naive"}

    @pytest.mark.parametrize(
        ("freq", "rows"),
        [("15min", 96), ("h", 24), ("D", 7), ("W", 52), ("MS", 12), ("QS", 4), ("YS", 1), ("2D", 4), ("B", 5)],
    )
    def test_season_of_a_frequency(self, freq, rows):
        assert season(pd.date_range("2020-01-01", periods=60, freq=freq)) == rows


@pytest.fixture(scope="module")
def co2():
    return create_task("co2")


class TestCo2:
    def test_defaults(self, co2):
        assert co2.input_size == (104, 1)
        assert co2.model_kwargs == {"horizon": 26}
        assert co2.splits == {"train": 1469, "val": 205, "test": 431}
        assert co2.notes == ("co2: 59 missing values are filled linearly (59 in train, 0 in val, 0 in test)",)
        assert create_task("co2", lookback=52, horizon=4).input_size == (52, 1)

    def test_gaps_are_on_the_line_between_their_neighbours(self, co2):
        raw = series.co2().frame["co2"]
        gap = int(np.flatnonzero(raw.isna())[0])
        assert raw.iloc[[gap - 1, gap + 1]].notna().all()  # a gap of one week
        assert co2.values[gap, 0] == pytest.approx((raw.iloc[gap - 1] + raw.iloc[gap + 1]) / 2)

    def test_a_linear_map_beats_the_naive_forecasts_in_seconds(self, co2):
        torch.manual_seed(0)
        result = train(Linear(104, 26), co2, seed=0)
        naive = naive_baselines(co2, "val")
        assert result.metrics["mse"] < 0.9 * min(metrics["mse"] for metrics in naive.values())
        assert result.per_item.shape == (205,)

    def test_description_is_the_identity(self, co2):
        description = co2.describe()
        assert json.loads(json.dumps(description)) == description
        assert description == create_task("co2").describe()
        assert description != create_task("co2", horizon=25).describe()


class TestCsv:
    def test_spans_and_columns(self, tmp_path):
        data = frame(200)
        data.insert(1, "place", "here")
        task = create_task(f"csv:{write(tmp_path / 'a.csv', data)}", lookback=10, horizon=5)
        assert task.spans == {"train": (0, 140), "val": (140, 160), "test": (160, 200)}
        assert task.series == ["s0", "s1"]
        assert task.notes == ("a.csv: not numeric, left out: place",)
        np.testing.assert_allclose(task.values, frame(200).to_numpy())
        assert (
            create_task(f"csv:{tmp_path / 'a.csv'}", lookback=20, horizon=5).describe()["data_sha256"]
            == (task.describe()["data_sha256"])
        )

    def test_default_lengths_are_96(self, tmp_path):
        path = write(tmp_path / "a.csv", frame(1000))
        assert create_task(f"csv:{path}").input_size == (96, 2)
        assert create_task(f"csv:{path}").model_kwargs == {"horizon": 96}

    def test_too_few_rows(self, tmp_path):
        path = write(tmp_path / "a.csv", frame(200))
        with pytest.raises(DataError, match=r"too few rows for lookback 96 and horizon 96: train has 140 rows"):
            create_task(f"csv:{path}")

    def test_missing_values_need_a_fill(self, tmp_path):
        data = frame(200)
        data.iloc[3:5, 1] = np.nan
        data.iloc[150, 0] = np.nan
        path = write(tmp_path / "a.csv", data)
        with pytest.raises(
            DataError, match=r"3 values are missing: s0 \(1\), s1 \(2\); .*--fill linear.*--fill forward"
        ):
            create_task(f"csv:{path}", **SHORT)
        task = create_task(f"csv:{path}", fill="forward", **SHORT)
        assert task.values[3:5, 1].tolist() == pytest.approx([data.iloc[2, 1]] * 2)
        expected = (
            f"csv:{path}: 3 missing values are filled with the last known value (2 in train, 1 in val, 0 in test)"
        )
        assert task.notes == (expected,)
        with pytest.raises(InputError, match="fill is 'cubic'; allowed: linear, forward"):
            create_task(f"csv:{path}", fill="cubic", **SHORT)

    @pytest.mark.parametrize("fill", ["linear", "forward"])
    def test_nothing_fills_a_missing_beginning(self, tmp_path, fill):
        data = frame(200)
        data.iloc[0, 1] = np.nan
        with pytest.raises(DataError, match=r"begin with missing values: s1; .*remove the rows"):
            create_task(f"csv:{write(tmp_path / 'a.csv', data)}", fill=fill, **SHORT)

    def test_no_numeric_column(self, tmp_path):
        data = pd.DataFrame({"place": ["a"] * 50}, index=pd.date_range("2020", periods=50))
        with pytest.raises(DataError, match=r"no numeric column besides its dates \(others: place\)"):
            create_task(f"csv:{write(tmp_path / 'a.csv', data)}")

    def test_no_date_column(self, tmp_path):
        path = tmp_path / "a.csv"
        pd.DataFrame({"a": np.arange(50.0), "b": ["x"] * 50}).to_csv(path, index=False)
        with pytest.raises(DataError, match=r"no date column \(columns: a, b\); .*2024-01-31"):
            create_task(f"csv:{path}")

    @pytest.mark.parametrize("order", [[1, 0, 2], [0, 0, 1]])
    def test_dates_must_ascend(self, tmp_path, order):
        with pytest.raises(DataError, match=r"the dates in 'date' do not ascend: line .*; sort"):
            create_task(f"csv:{write(tmp_path / 'a.csv', frame(3).iloc[order])}")

    def test_no_csv(self, tmp_path):
        with pytest.raises(DataError, match="no CSV file at"):
            create_task(f"csv:{tmp_path / 'a.csv'}")
        (tmp_path / "empty.csv").touch()
        with pytest.raises(DataError, match="cannot be read as a CSV"):
            create_task(f"csv:{tmp_path / 'empty.csv'}")
        (tmp_path / "head.csv").write_text("date,a\n")
        with pytest.raises(DataError, match="no date column"):
            create_task(f"csv:{tmp_path / 'head.csv'}")


class TestEtt:
    @pytest.mark.parametrize(("freq", "month"), [("h", 720), ("15min", 2880)])
    def test_borders(self, tmp_path, freq, month):
        path = write(tmp_path / "ett.csv", frame(20 * month + 10, 1, freq), float_format="%.3f")
        task = create_task(f"ett:{path}", lookback=96, horizon=96)
        assert task.spans == {
            "train": (0, 12 * month),
            "val": (12 * month, 16 * month),
            "test": (16 * month, 20 * month),
        }
        assert task.splits == {"train": 12 * month - 191, "val": 4 * month - 95, "test": 4 * month - 95}

    def test_other_data_is_refused(self, tmp_path):
        path = write(tmp_path / "a.csv", frame(1000, 1, "h"))
        with pytest.raises(DataError, match=r"20 months, 14400 rows, got 1000; use csv:"):
            create_task(f"ett:{path}")
        path = write(tmp_path / "a.csv", frame(1000, 1, "D"))
        with pytest.raises(DataError, match=r"every hour or 15 minutes, this one every 1 day;.*use csv:"):
            create_task(f"ett:{path}")
