"""Fair protocols: borders and window counts in numbers, no leakage through any stem, metrics by hand, known truths."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import nasbench as nb
from nasbench import cli, report
from nasbench.backbones import backbone_names, create_backbone, stems_for
from nasbench.errors import DataError
from nasbench.tasks import ForecastingTask, create_task, naive_baselines
from nasbench.tasks.recipe import Recipe
from nasbench.training.loop import evaluate, train

backbone_names()  # loads the stems
ALL_STEMS = sorted(stems_for("horizon"))

SPANS = {"train": (0, 120), "val": (120, 150), "test": (150, 190)}


def noise(rows=190, columns=3, freq="h", seed=0):
    values = np.random.default_rng(seed).normal(size=(rows, columns)).cumsum(axis=0)
    index = pd.date_range("2016-07-01", periods=rows, freq=freq)
    return pd.DataFrame(values, index=index, columns=[f"s{i}" for i in range(columns)])


def write(path, frame):
    frame.to_csv(path, index_label="date", float_format="%.4f")
    return path


def built(name, task, seed=0):
    torch.manual_seed(seed)
    return create_backbone(name, input_size=task.input_size, **task.model_kwargs)


@pytest.fixture(scope="module")
def hourly(tmp_path_factory):
    return write(tmp_path_factory.mktemp("ett") / "ETTh.csv", noise(14400 + 3020, 2))


@pytest.fixture(scope="module")
def task(hourly):
    return create_task(f"ett:{hourly}", lookback=96, horizon=96)


class TestBorders:
    """In numbers, not formulas: what every paper on ETT has."""

    def test_twelve_four_and_four_months_of_thirty_days(self, task):
        assert task.spans == {"train": (0, 8640), "val": (8640, 11520), "test": (11520, 14400)}
        assert task.dates[11520] == pd.Timestamp("2017-10-24 00:00")  # 480 days after 1 July 2016
        assert len(task.values) == 14400  # later rows are not even read

    @pytest.mark.parametrize(
        ("lookback", "horizon", "counts"),
        [(96, 96, (8449, 2785, 2785)), (336, 720, (7585, 2161, 2161)), (1, 1, (8639, 2880, 2880))],
    )
    def test_window_counts(self, hourly, lookback, horizon, counts):
        task = create_task(f"ett:{hourly}", lookback=lookback, horizon=horizon)
        assert (task.splits["train"], task.splits["val"], task.splits["test"]) == counts

    def test_the_first_and_last_targets_touch_the_borders(self, task):
        x, y = next(task.eval_batches("test", 1))
        assert torch.equal(x[0], task.scaled[11520 - 96 : 11520])
        assert torch.equal(y[0], task.scaled[11520 : 11520 + 96])
        *_, (x, y) = task.eval_batches("test", 1)
        assert torch.equal(y[0], task.scaled[14400 - 96 : 14400])
        *_, (x, y) = task.eval_batches("val", 1)
        assert torch.equal(y[0], task.scaled[11520 - 96 : 11520])  # no target of validation reaches into test

    def test_quarter_hours(self, tmp_path):
        task = create_task(f"ett:{write(tmp_path / 'm.csv', noise(57600, 1, '15min'))}", lookback=96, horizon=96)
        assert task.spans == {"train": (0, 34560), "val": (34560, 46080), "test": (46080, 57600)}
        assert task.splits == {"train": 34369, "val": 11425, "test": 11425}

    def test_ratios(self, tmp_path):
        """1003 rows: ⌊702.1⌋ to train on, the last ⌊200.6⌋ to test, the rest between them."""
        task = create_task(f"csv:{write(tmp_path / 'c.csv', noise(1003))}", lookback=24, horizon=12)
        assert task.spans == {"train": (0, 702), "val": (702, 803), "test": (803, 1003)}
        assert task.splits == {"train": 702 - 24 - 12 + 1, "val": 101 - 12 + 1, "test": 200 - 12 + 1}
        train_rows = task.values[:702]
        np.testing.assert_allclose(task.mean, train_rows.mean(axis=0))
        np.testing.assert_allclose(task.std, np.sqrt(((train_rows - train_rows.mean(axis=0)) ** 2).mean(axis=0)))


class TestEveryWindowCounts:
    @pytest.mark.parametrize("batch_size", [1, 16, 32, 1000])
    def test_whatever_the_batch(self, batch_size):
        """37 test windows: neither 16 nor 32 divides that, and none is dropped."""
        task = ForecastingTask("t", noise(), SPANS, lookback=12, horizon=4)
        model = built("dlinear", task)
        metrics, per_item = evaluate(model, task, "test", batch_size=batch_size)
        errors = []
        for first in range(150, 190 - 4 + 1):
            with torch.no_grad():
                forecast = model(task.scaled[None, first - 12 : first])[0]
            errors.append(float((forecast - task.scaled[first : first + 4]).square().mean()))
        assert len(per_item) == 37 == len(errors)
        np.testing.assert_allclose(per_item, errors, rtol=1e-4)
        assert metrics["mse"] == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.parametrize("name", ALL_STEMS)
class TestNoStemLeaks:
    def test_the_test_span_changes_nothing_in_training(self, name):
        """Weights after an epoch are equal bit for bit."""
        weights = []
        for future in (noise(), noise()):
            if weights:
                future.iloc[150:] = 1e4 * np.arange(40)[:, None]
            task = ForecastingTask("t", future, SPANS, lookback=12, horizon=4)
            model = built(name, task)
            result = train(model, task, Recipe(epochs=1, batch_size=32), seed=3)
            weights.append((model.state_dict(), result.per_item))
        (one, items), (two, others) = weights
        assert all(torch.equal(one[key], two[key]) for key in one)
        assert np.array_equal(items, others)

    def test_the_future_changes_no_past_forecast(self, name):
        task, other = (ForecastingTask("t", noise(), SPANS, lookback=12, horizon=4) for _ in range(2))
        other.scaled[165:] = 77.0
        model = built(name, task).eval()
        past = (task.starts["test"] + 12 <= 165).tolist()
        assert 0 < sum(past) < len(past)
        with torch.no_grad():
            before, after = (torch.cat([model(x) for x, _ in t.eval_batches("test", 10)]) for t in (task, other))
        for index, known in enumerate(past):
            assert torch.allclose(before[index], after[index], atol=1e-5) == known

    def test_a_forecast_does_not_depend_on_the_other_windows_of_its_batch(self, name):
        task = ForecastingTask("t", noise(), SPANS, lookback=12, horizon=4)
        model = built(name, task).eval()
        x, _ = next(task.eval_batches("test", 8))
        with torch.no_grad():
            together, backwards = model(x), model(x.flip(0)).flip(0)
            alone = torch.cat([model(x[i : i + 1]) for i in range(8)])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together, backwards, rtol=1e-4, atol=1e-5)

    def test_a_lookback_and_a_horizon_of_one(self, name):
        task = ForecastingTask("t", noise(columns=1), SPANS, lookback=1, horizon=1)
        assert task.splits == {"train": 119, "val": 30, "test": 40}
        result = train(built(name, task), task, Recipe(epochs=1, batch_size=64), seed=0)
        assert np.isfinite(result.metrics["mse"])


class TestScaleFreeMetricsByHand:
    def test_mase_and_smape_of_quarters(self):
        """Season 4. `up` gains 1 a quarter, 4 a year; `step` repeats (0, 8, 16, 24) and gains 10 a year."""
        t = np.arange(80)
        values = np.stack([t + 100.0, 8.0 * (t % 4) + 10.0 * (t // 4) + 50], axis=1)
        frame = pd.DataFrame(values, index=pd.date_range("2000", periods=80, freq="QS"), columns=["up", "step"])
        task = ForecastingTask("q", frame, {"train": (0, 40), "val": (40, 60), "test": (60, 80)}, lookback=8, horizon=2)
        assert task.season == 4
        assert task.naive_error.tolist() == [4.0, 10.0]
        truth = np.array([[[100.0, 50.0], [200.0, 20.0]]])  # (1, 2 steps, 2 series) in the data's units
        forecast = np.array([[[102.0, 45.0], [194.0, 45.0]]])
        scaled = [torch.from_numpy((v - task.mean) / task.std) for v in (forecast, truth)]
        metrics, _ = task.evaluate(*scaled)
        assert metrics["mase"] == pytest.approx(((2 + 6) / 2 / 4 + (5 + 25) / 2 / 10) / 2)  # (1 + 1.5) / 2
        assert metrics["smape"] == pytest.approx(200 / 4 * (2 / 202 + 6 / 394 + 5 / 95 + 25 / 65))

    def test_scale_free_is_free_of_scale(self):
        """A series in other units has other errors, but the same sMAPE and MASE, and so have MSE and MAE as scaled."""
        found = []
        for factor in (1.0, 250.0):
            task = ForecastingTask("t", (noise() + 40) * factor, SPANS, lookback=12, horizon=4)
            found.append(naive_baselines(task, "test")["last value"])
        assert found[0] == pytest.approx(found[1], rel=1e-4)


class TestEdges:
    def test_a_lookback_longer_than_the_training_span(self):
        with pytest.raises(
            DataError, match=r"lookback 130 and horizon 4: train has 120 rows and needs 134.*shorter --"
        ):
            ForecastingTask("t", noise(), SPANS, lookback=130, horizon=4)

    def test_a_lookback_longer_than_the_later_spans_reaches_back(self):
        task = ForecastingTask("t", noise(), SPANS, lookback=100, horizon=4)
        assert task.splits == {"train": 17, "val": 27, "test": 37}
        x, _ = next(task.eval_batches("val", 1))
        assert torch.equal(x[0], task.scaled[20:120])

    def test_a_horizon_longer_than_the_validation_span(self):
        with pytest.raises(DataError, match="val has 30 rows and needs 31"):
            ForecastingTask("t", noise(), SPANS, lookback=12, horizon=31)

    def test_the_command_says_so_with_exit_code_4(self, tmp_path, capfd):
        path = write(tmp_path / "c.csv", noise(300))
        call = ["search", "--backbone", "dlinear", "--task", f"csv:{path}", "--out", str(tmp_path / "r")]
        assert cli.main([*call, "--lookback", "500", "--horizon", "8"]) == 4
        assert "train has 210 rows and needs 508" in " ".join(capfd.readouterr().err.split())
        assert not (tmp_path / "r").exists()

    def test_missing_values_are_refused_until_the_command_says_how_to_fill(self, tmp_path, capfd):
        gap = noise(300)
        gap.iloc[20:23, 1] = np.nan
        task = f"csv:{write(tmp_path / 'c.csv', gap)}"
        call = ["search", "--backbone", "dlinear", "--task", task, "--lookback", "12", "--horizon", "4"]
        assert cli.main([*call, "--out", str(tmp_path / "no")]) == 4
        told = " ".join(capfd.readouterr().err.split())
        assert "3 values are missing: s1 (3)" in told
        assert "--fill linear" in told
        assert "--fill forward" in told
        run = nb.search(
            {"variants": ["eca"], "slots": ["input"]}, backbone="dlinear", task=task, lookback=12, horizon=4,
            fill="forward", trials=1, seeds=1, training={"epochs": 1}, latency_s=0.0, out=tmp_path / "yes",
        )  # fmt: skip
        assert run.trials()["state"].tolist() == ["complete"]
        note = f"{task}: 3 missing values are filled with the last known value (3 in train, 0 in val, 0 in test)"
        assert run.config["task"]["notes"] == [note]


def test_naive_forecasts_are_always_in_the_report(tmp_path):
    """Both of them, with the metrics of the test windows, also where no plan but the bare backbone was tried."""
    frame = noise(260, 2)
    path = write(tmp_path / "c.csv", frame)
    run = nb.search(
        {"variants": ["eca"], "slots": ["input"]}, backbone="dlinear", task=f"csv:{path}", lookback=24, horizon=4,
        trials=1, seeds=1, training={"epochs": 1}, latency_s=0.0, out=tmp_path / "run",
    )  # fmt: skip
    page = report.build(run).read_text()
    task = create_task(f"csv:{path}", lookback=24, horizon=4)
    known = json.loads((run.path / "test.json").read_text())["naive"]
    assert known == naive_baselines(task, "test")
    v, (first, end) = (task.values - task.mean) / task.std, task.spans["test"]
    windows = range(first, end - 4 + 1)
    last = np.mean([(v[t + h] - v[t - 1]) ** 2 for t in windows for h in range(4)])
    day = np.mean([(v[t + h] - v[t + h - 24]) ** 2 for t in windows for h in range(4)])
    assert known["last value"]["mse"] == pytest.approx(last, rel=1e-4)
    assert known["seasonal naive"]["mse"] == pytest.approx(day, rel=1e-4)
    for name in ("last value", "seasonal naive"):
        assert name in page
        assert f"{known[name]['mse']:.4g}" in page
    assert "Error by step of the horizon" in page


def test_dlinear_finds_a_perfect_linear_solution():
    """Two sines without noise: x_t is a fixed linear map of the four values before it, so the error can be 0."""
    t = np.arange(190)
    waves = [np.sin(2 * np.pi * t / 10 + i) + 0.5 * np.sin(2 * np.pi * t / 7 + 2 * i) for i in range(3)]
    roots = np.exp(2j * np.pi * np.array([1 / 10, -1 / 10, 1 / 7, -1 / 7]))
    recursion = -np.poly(roots).real[1:]
    for wave in waves:
        np.testing.assert_allclose(
            wave[4:], sum(c * wave[3 - i : len(t) - 1 - i] for i, c in enumerate(recursion)), atol=1e-12
        )
    frame = pd.DataFrame(np.stack(waves, 1), index=pd.date_range("2020", periods=190, freq="h"), columns=list("abc"))
    task = ForecastingTask("waves", frame, SPANS, lookback=16, horizon=4)
    model = built("dlinear", task)
    result = train(model, task, Recipe(epochs=80, batch_size=16, learning_rate=1e-2, weight_decay=0.0), seed=0)
    assert result.metrics["mse"] < 1e-4
    assert evaluate(model, task, "test")[0]["mse"] < 1e-4 < 0.1 < naive_baselines(task, "test")["last value"]["mse"]
