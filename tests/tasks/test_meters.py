"""Meters: metrics batch by batch are those of the whole split, and nothing but a number for each item is stored."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasbench.errors import EvaluationError, UnknownNameError
from nasbench.tasks import ForecastingTask, Task, create_task, naive_baselines, naive_forecasts
from nasbench.testing._task import check_task
from nasbench.training.loop import evaluate

SPANS = {"train": (0, 140), "val": (140, 160), "test": (160, 200)}


def forecasting(kind=ForecastingTask, **options):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 3)).cumsum(axis=0) + np.array([0, 50, 1e4])
    frame = pd.DataFrame(values, index=pd.date_range("2020", periods=200), columns=["a", "b", "c"])
    return kind("t", frame, SPANS, lookback=6, horizon=4, **options)


class Last(torch.nn.Module):
    def forward(self, x):
        return x[:, -1:].expand(-1, 4, -1)


@pytest.fixture(scope="module")
def digits():
    return create_task("digits")


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=6), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_batches_do_not_matter(digits, sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    total = sum(sizes)
    for task, outputs, targets in (
        (forecasting(), *torch.randn(2, total, 4, 3, generator=generator)),
        (digits, torch.randn(total, 10, generator=generator), torch.randint(10, (total,), generator=generator)),
    ):
        whole, items = task.evaluate(outputs, targets)
        meter = task.meter("val")
        for f, y in zip(outputs.split(sizes), targets.split(sizes), strict=True):
            meter.update(f, y)
        metrics, parts = meter.result()
        assert metrics == pytest.approx(whole, rel=1e-12)
        np.testing.assert_allclose(parts, items, rtol=1e-12)
        assert len(parts) == total
        assert float(parts.mean()) == pytest.approx(metrics[task.metric])


def test_the_definitions():
    """The metrics of a whole split at once, as they are defined."""
    task = forecasting()
    f, y = (torch.cat([y for _, y in task.eval_batches("val", 7)]) for _ in range(2))
    f = f + torch.randn(f.shape, generator=torch.Generator().manual_seed(0))
    metrics, _ = task.evaluate(f, y)
    f, y = f.double().numpy(), y.double().numpy()
    assert metrics["mse"] == pytest.approx(((f - y) ** 2).mean())
    assert metrics["mae"] == pytest.approx(np.abs(f - y).mean())
    f, y = task.unscale(f), task.unscale(y)
    assert metrics["smape"] == pytest.approx((200 * np.abs(f - y) / (np.abs(f) + np.abs(y))).mean())
    assert metrics["mase"] == pytest.approx((np.abs(f - y).mean(axis=(0, 1)) / task.naive_error).mean())


@pytest.mark.parametrize("make", [forecasting, lambda: create_task("digits")])
def test_no_output_is_stored(make):
    task = make()
    shape = (8, 4, 3) if task.kind == "forecasting" else (8, 10)
    outputs = torch.zeros(shape)
    targets = torch.zeros(shape) if task.kind == "forecasting" else torch.zeros(8, dtype=torch.long)
    meter = task.meter("val")
    meter.update(outputs, targets)
    references = weakref.ref(outputs), weakref.ref(targets)
    del outputs, targets
    gc.collect()
    assert [each() for each in references] == [None, None]
    assert len(meter.result()[1]) == 8


class OnlyEvaluates(ForecastingTask):
    """A user's task from the time before meters."""

    def evaluate(self, outputs, targets):
        metrics, items = super().evaluate(outputs, targets)
        return {**metrics, "mse": metrics["mse"] + 1}, items + 1


class Nested(ForecastingTask):
    """A user's task whose targets are a dict with the batch as the first axis of its tensors."""

    meter = Task.meter

    def train_batches(self, *args, **options):
        yield from self._nested(super().train_batches(*args, **options))

    def eval_batches(self, *args, **options):
        yield from self._nested(super().eval_batches(*args, **options))

    def _nested(self, batches):
        for inputs, targets in batches:
            yield inputs, {"next": targets[:, :1], "later": [targets[:, 1:]]}

    def loss(self, outputs, targets):
        return torch.nn.functional.mse_loss(outputs, torch.cat([targets["next"], *targets["later"]], 1))

    def evaluate(self, outputs, targets):
        error = (outputs - torch.cat([targets["next"], *targets["later"]], 1)).square().mean((1, 2)).double().numpy()
        return {"mse": float(error.mean())}, error


class OnlyMeters(Task):
    """A user's task with a meter alone."""

    kind, metric, metrics = "classification", "accuracy", {"accuracy": "maximize"}
    input_size, model_kwargs, splits = (2,), {"num_classes": 2}, {"train": 4, "val": 4, "test": 4}
    name = "only meters"

    class Right:
        def __init__(self):
            self.right = []

        def update(self, outputs, targets):
            self.right += (outputs.argmax(1) == targets).double().tolist()

        def result(self):
            return {"accuracy": float(np.mean(self.right))}, np.array(self.right)

    def describe(self):
        return {}

    def eval_batches(self, split, batch_size, *, device="cpu"):
        inputs, targets = torch.eye(2).repeat(2, 1), torch.tensor([0, 1, 0, 0])
        yield from zip(inputs.split(batch_size), targets.split(batch_size), strict=True)

    def train_batches(self, batch_size, *, seed, epoch, augmentation="none", device="cpu"):
        return self.eval_batches("train", batch_size)

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets)

    def meter(self, split):
        return self.Right()


class TestUsersTasks:
    def test_evaluate_alone_is_used(self):
        mine, usual = forecasting(OnlyEvaluates), forecasting()
        theirs, items = evaluate(Last(), mine, "test", batch_size=7)
        ours, _ = evaluate(Last(), usual, "test", batch_size=7)
        assert theirs["mse"] == pytest.approx(ours["mse"] + 1)
        assert theirs["mae"] == pytest.approx(ours["mae"])
        assert len(items) == mine.splits["test"]
        assert naive_baselines(mine, "test")["last value"]["mse"] == pytest.approx(ours["mse"] + 1)
        assert all(result.passed for result in check_task(mine)), check_task(mine)

    def test_nested_targets(self):
        mine, usual = forecasting(Nested), forecasting()
        theirs, _ = evaluate(Last(), usual, "test", batch_size=7)
        assert evaluate(Last(), mine, "test", batch_size=7)[0]["mse"] == pytest.approx(theirs["mse"])
        assert all(result.passed for result in check_task(mine)), check_task(mine)

    def test_a_meter_alone_is_used(self):
        task = OnlyMeters()
        assert evaluate(torch.nn.Identity(), task, "val", batch_size=3)[0] == {"accuracy": 0.75}
        assert task.evaluate(torch.eye(2), torch.tensor([0, 0]))[0] == {"accuracy": 0.5}

    def test_neither_is_an_error(self):
        class Neither(OnlyMeters):
            meter = Task.meter

        with pytest.raises(NotImplementedError, match="Neither defines neither `meter` nor `evaluate`"):
            evaluate(torch.nn.Identity(), Neither(), "val")


def test_an_output_that_is_not_finite_stops_at_its_batch():
    seen = []

    class Bad(torch.nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return torch.full((len(x), 4, 3), float("nan"))

    with pytest.raises(EvaluationError, match="not all finite"):
        evaluate(Bad(), forecasting(), "test", batch_size=5)
    assert seen == [5]


def test_naive_baselines_are_those_of_the_whole_split():
    task = forecasting()
    targets = torch.cat([y for _, y in task.eval_batches("test", 64)])
    for name, forecast in naive_forecasts(task, "test").items():
        assert naive_baselines(task, "test")[name] == pytest.approx(task.evaluate(forecast, targets)[0], rel=1e-12)


class TestTarget:
    def test_only_the_target_is_scored(self):
        task, single = forecasting(target="b"), forecasting()
        outputs, targets = torch.randn(2, 9, 4, 3, generator=torch.Generator().manual_seed(0))
        assert task.input_size == (6, 3)
        assert float(task.loss(None, outputs, targets)) == pytest.approx(
            float(((outputs - targets)[..., 1] ** 2).mean())
        )
        metrics, items = task.evaluate(outputs, targets)
        np.testing.assert_allclose(items, ((outputs - targets)[..., 1] ** 2).mean(dim=1), rtol=1e-6)
        changed = outputs.clone()
        changed[..., [0, 2]] = 9
        assert task.evaluate(changed, targets)[0] == metrics
        assert single.evaluate(changed, targets)[0] != single.evaluate(outputs, targets)[0]

    def test_it_is_part_of_the_identity_only_if_given(self):
        assert "target" not in forecasting().describe()
        assert forecasting(target="b").describe() == {**forecasting().describe(), "target": "b"}
        with pytest.raises(UnknownNameError, match="no series named 'd'; known: a, b, c"):
            forecasting(target="d")
