"""Forecasting tasks: the windows of each split, and their errors on scaled and on original values.

Values are scaled with the mean and standard deviation of the training span.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nasbench.errors import DataError, InputError
from nasbench.tasks._base import SPLITS, Batch, Task, epoch_generator, shuffled
from nasbench.tasks._series import CALENDAR, Spans, calendar, fill_gaps, season
from nasbench.tasks.forms import METRICS
from nasbench.tasks.recipe import Recipe

__all__ = ["ForecastingTask", "naive_baselines", "naive_forecasts"]


class ForecastingTask(Task):
    """Forecast all D series together: from scaled inputs `(B, lookback, D)` to scaled targets `(B, horizon, D)`.

    A window belongs to the split that contains its whole target. Its input can start in the span before it. So a
    training span of n rows has n - lookback - horizon + 1 windows, and a later span of n rows has n - horizon + 1
    windows.

    Args:
        name: The text that the user gave.
        frame: The index has the dates, and each column of floats is a series.
        spans: For each split, its first row and the row after its last row. The splits follow each other in time.
        lookback: Number of rows of an input.
        horizon: Number of rows of a forecast.
        fill: How missing values are filled: "linear" or "forward". None if no value is missing.
        covariates: Whether the model also gets the `CALENDAR` of the lookback and the horizon. Inputs are then
            `(values, marks)` with marks `(B, lookback + horizon, 4)`.
        recipe: The recipe that a search uses by default.
        notes: Sentences for the report.

    Raises:
        DataError: If values are missing and `fill` is None, or if a split is too short for one window.
        InputError: If `lookback`, `horizon` or `fill` is not allowed.
    """

    kind: Literal["classification", "forecasting"] = "forecasting"
    metric = "mse"

    def __init__(
        self,
        name: str,
        frame: pd.DataFrame,
        spans: Spans,
        *,
        lookback: int = 96,
        horizon: int = 96,
        fill: str | None = None,
        covariates: bool = False,
        recipe: Recipe | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        _check_lengths(name, spans, lookback, horizon)
        self.name, self.spans, self.lookback, self.horizon, self.fill = name, spans, lookback, horizon, fill
        filled, gaps = fill_gaps(frame, spans, fill)
        self.dates, self.series = pd.DatetimeIndex(filled.index), [str(c) for c in filled.columns]
        self.values = filled.to_numpy(np.float64)
        self.season = season(self.dates)
        self._fit_scales()
        self.input_size = (lookback, len(self.series))
        self.model_kwargs = {"horizon": horizon} | ({"covariates": len(CALENDAR)} if covariates else {})
        self.marks = torch.from_numpy(calendar(self.dates)).float() if covariates else None
        self.starts = {split: self._starts(split) for split in SPLITS}
        self.splits = {split: len(self.starts[split]) for split in SPLITS}
        self.notes = (*notes, *_gap_note(name, gaps, fill))
        self.recipe = recipe or Recipe(
            epochs=10, batch_size=32, learning_rate=1e-3, schedule="cosine", patience=3, validate_every=1
        )

    def _fit_scales(self) -> None:
        """Compute the scales, the season and the naive error, all from the training span only."""
        start, end = self.spans["train"]
        train = self.values[start:end]
        deviation = train.std(axis=0)
        self.mean = train.mean(axis=0)
        self.std = np.where(deviation > 0, deviation, 1.0)  # a constant series is only centred, not scaled
        # If the season is not shorter than the training span, no two rows are a season apart.
        self.season = self.season if self.season < len(train) else 1
        self.naive_error = np.abs(train[self.season :] - train[: -self.season]).mean(axis=0)
        self.scaled = torch.from_numpy((self.values - self.mean) / self.std).float()
        self.metrics: dict[str, str] = dict(METRICS["forecasting"])
        if not self.naive_error.any():  # mase would divide by zero
            del self.metrics["mase"]

    def _starts(self, split: str) -> Tensor:
        """Return the first input row of each window of a split."""
        start, end = self.spans[split]
        # Only a training window must be completely in its span. The input of a later window can use rows before its
        # span, because they are in the past.
        first = start if split == "train" else start - self.lookback
        return torch.arange(first, end - self.lookback - self.horizon + 1)

    def preprocessing(self) -> dict[str, Any]:
        """Return the names of the series in order, and the mean and standard deviation that scale each series."""
        return {"series": list(self.series), "mean": self.mean.tolist(), "std": self.std.tolist()}

    def describe(self) -> dict[str, Any]:
        """Return the name, the hash of the data, the spans and the window lengths, as data for JSON."""
        content = hashlib.sha256(repr((self.series, [str(d) for d in self.dates])).encode())
        content.update(self.values.tobytes())
        return {
            "task": self.name,
            "kind": self.kind,
            "data_sha256": content.hexdigest(),
            "split_seed": None,  # the split follows time, so nothing is drawn at random
            "spans": {split: list(span) for split, span in self.spans.items()},
            "splits": dict(self.splits),
            "series": len(self.series),
            "lookback": self.lookback,
            "horizon": self.horizon,
            "fill": self.fill,
            "season": self.season,
            **({"covariates": list(CALENDAR)} if self.marks is not None else {}),
        }

    def train_batches(
        self, batch_size: int, *, seed: int, epoch: int, augmentation: str = "none", device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield each training window once, in a random order."""
        if augmentation != "none":
            raise InputError(f"augmentation={augmentation} is for images; a forecasting task takes augmentation=none")
        starts = self.starts["train"]
        for chosen in shuffled(len(starts), batch_size, epoch_generator(seed, epoch)):
            yield self._windows(starts[chosen], device)

    def eval_batches(self, split: str, batch_size: int, *, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Yield every window of a split in time order."""
        for starts in self.starts[self.check_split(split)].split(batch_size):
            yield self._windows(starts, device)

    def _windows(self, starts: Tensor, device: torch.device | str) -> Batch:
        rows = starts[:, None] + torch.arange(self.lookback + self.horizon)
        window = self.scaled[rows].to(device)
        x, y = window[:, : self.lookback], window[:, self.lookback :]
        return (x if self.marks is None else (x, self.marks[rows].to(device))), y

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of scaled values."""
        return torch.nn.functional.mse_loss(outputs, targets)

    def evaluate(self, outputs: Tensor, targets: Tensor) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics of scaled forecasts `(N, horizon, D)`, and the mean squared error of each window.

        mse and mae are computed on scaled values, but smape and mase on original values.

        smape is `200·mean(|f − y| / (|f| + |y|))` for forecast f and target y, in percent, from 0 to 200. 0/0 counts as
        0. mase is the mean absolute error, divided by the mean absolute error of the seasonal naive forecast (the value
        one season earlier) on the training span. The ratio is computed for each series whose naive error is not 0, and
        then averaged (Hyndman & Koehler, Int. J. Forecasting 2006).
        """
        f, y = (t.detach().cpu().double().numpy() for t in (outputs, targets))
        square = (f - y) ** 2
        metrics = {"mse": float(square.mean()), "mae": float(np.abs(f - y).mean())}
        f, y = self.unscale(f), self.unscale(y)
        error, total = np.abs(f - y), np.abs(f) + np.abs(y)
        metrics["smape"] = float(200 * np.divide(error, total, out=np.zeros_like(error), where=total > 0).mean())
        if "mase" in self.metrics:
            varies = self.naive_error > 0
            metrics["mase"] = float((error.mean(axis=(0, 1))[varies] / self.naive_error[varies]).mean())
        return metrics, square.mean(axis=(1, 2))

    def unscale(self, values: np.ndarray) -> np.ndarray:
        """Convert scaled values `(..., D)` back to the units of the data."""
        return values * self.std + self.mean


def naive_forecasts(task: ForecastingTask, split: str) -> dict[str, Tensor]:
    """Return scaled forecasts `(N, horizon, D)` that need no model, for the windows of a split.

    "last value" repeats the last row of the input. "seasonal naive" repeats the last whole season before the target. It
    is left out if any target has less than a whole season of data before it.
    """
    first = task.starts[task.check_split(split)][:, None] + task.lookback  # the first target row
    steps = torch.arange(task.horizon)
    forecasts = {"last value": task.scaled[(first - 1).expand(-1, task.horizon)]}
    rows = first - task.season + steps % task.season
    if bool((rows >= 0).all()):
        forecasts["seasonal naive"] = task.scaled[rows]
    return forecasts


def naive_baselines(task: ForecastingTask, split: str) -> dict[str, dict[str, float]]:
    """Return the metrics of each naive forecast on a split.

    Example:
        >>> from nasbench.tasks import create_task
        >>> sorted(naive_baselines(create_task("co2"), "val"))
        ['last value', 'seasonal naive']
    """
    targets = torch.cat([y for _, y in task.eval_batches(split, 1024)])
    return {name: task.evaluate(f, targets)[0] for name, f in naive_forecasts(task, split).items()}


def _check_lengths(name: str, spans: Spans, lookback: int, horizon: int) -> None:
    for word, value in (("lookback", lookback), ("horizon", horizon)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{word} must be a whole number of rows, 1 or more; got {value!r}")
    rows = {split: end - start for split, (start, end) in spans.items()}
    need = {"train": lookback + horizon, "val": horizon, "test": horizon}
    short = [f"{split} has {rows[split]} rows and needs {need[split]}" for split in SPLITS if rows[split] < need[split]]
    if short:
        raise DataError(
            f"{name}: too few rows for lookback {lookback} and horizon {horizon}: {'; '.join(short)}; "
            "give more rows, or a shorter --lookback or --horizon"
        )


def _gap_note(name: str, gaps: Mapping[str, int], fill: str | None) -> tuple[str, ...]:
    total = sum(gaps.values())
    if not total:
        return ()
    where = ", ".join(f"{gaps[split]} in {split}" for split in SPLITS)
    how = "linearly" if fill == "linear" else "with the last known value"
    return (f"{name}: {total} missing values are filled {how} ({where})",)
