"""Forecasting tasks: the windows of each split, and their errors on scaled and on original values.

Values are scaled with the mean and standard deviation of the training span.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from nasbench.errors import DataError, InputError, UnknownNameError
from nasbench.tasks._base import SPLITS, Batch, Kind, Meter, Task, epoch_generator, shuffled
from nasbench.tasks._series import CALENDAR, Spans, calendar, fill_gaps
from nasbench.tasks.forms import METRICS
from nasbench.tasks.recipe import Recipe
from nasbench.tasks.series_steps import season

__all__ = ["ForecastingTask", "naive_baselines", "naive_forecasts", "naive_names", "naive_of"]

_CHUNK_VALUES = 1_000_000
"""Number of forecast values whose errors are computed at once, in double precision."""

_BATCH = 32
"""Number of windows for which naive forecasts are computed at once."""

_LARGEST = 1e18
"""Largest scaled value. Its square is finite in single precision, whose largest value is 3e38."""

_SMALLEST = float(np.sqrt(np.finfo(np.float64).tiny))
"""Smallest standard deviation whose square keeps all digits in double precision: about 1.5e-154."""


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
        target: Name of the series that loss and metrics score. The model still gets and forecasts all series, as in
            Informer's "MS" setting. None means that all series are scored.
        read: Facts about the file that was read (`Series.read`).

    Raises:
        DataError: If values are missing and `fill` is None, if a split is too short for one window, or if values are
            too large or too small for their scale, or too large for single precision.
        InputError: If `lookback`, `horizon` or `fill` is not allowed.
        UnknownNameError: If there is no series `target`.
    """

    kind: Kind = "forecasting"
    metric = "mse"
    augmentations = ("none",)

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
        target: str | None = None,
        read: Mapping[str, str] | None = None,
    ) -> None:
        _check_lengths(name, spans, lookback, horizon)
        self.name, self.spans, self.lookback, self.horizon, self.fill = name, spans, lookback, horizon, fill
        filled, gaps = fill_gaps(frame, spans, fill)
        self.dates, self.series = pd.DatetimeIndex(filled.index), [str(c) for c in filled.columns]
        self.values = filled.to_numpy(np.float64)
        self.season = season(self.dates)
        self.target, self.scored = target, _scored(self.series, target)
        self._fit_scales()
        self.input_size = (lookback, len(self.series))
        self.model_kwargs = {"horizon": horizon} | ({"covariates": len(CALENDAR)} if covariates else {})
        self.marks = torch.from_numpy(calendar(self.dates)).float() if covariates else None
        self.starts = {split: self._starts(split) for split in SPLITS}
        self.splits = {split: len(self.starts[split]) for split in SPLITS}
        self.notes = (*notes, *_gap_note(name, gaps, fill), *self._mase_notes())
        self.read = dict(read or {})
        if target is not None and self.read:
            self.read["series"] += f"; scored: {target}"
        self.recipe = recipe or Recipe(
            epochs=10, batch_size=32, learning_rate=1e-3, schedule="cosine", patience=3, validate_every=1
        )

    def _fit_scales(self) -> None:
        """Compute the scales, the season and the naive error, all from the training span only.

        Raises:
            DataError: If a scale or a scaled value is not finite.
        """
        start, end = self.spans["train"]
        train = self.values[start:end]
        with np.errstate(over="ignore", invalid="ignore"):
            self.mean, deviation = train.mean(axis=0), train.std(axis=0)
            constant = _is_constant(len(train), self.mean, deviation)
        if not (np.isfinite(self.mean) & np.isfinite(deviation)).all():
            bad = int(np.flatnonzero(~(np.isfinite(self.mean) & np.isfinite(deviation)))[0])
            raise DataError(
                f"{self.name}: the values of {self.series[bad]!r} are too large, up to "
                f"{np.abs(train[:, bad]).max():.3g}: their standard deviation is not finite; give the series in a "
                "larger unit, or leave it out with --series"
            )
        self._check_small(train)
        self.std = np.where(constant, 1.0, deviation)  # a constant series is only centred, not scaled
        # If the season is not shorter than the training span, no two rows are a season apart.
        self.season = self.season if self.season < len(train) else 1
        error = np.abs(train[self.season :] - train[: -self.season]).mean(axis=0)
        # If a series repeats exactly, its differences come from rounding alone and do not count as an error.
        rounding = len(train) * np.finfo(np.float64).eps * np.abs(train).max(axis=0)
        self.naive_error = np.where(error > rounding, error, 0.0)
        with np.errstate(over="ignore"):
            self.scaled = torch.from_numpy((self.values - self.mean) / self.std).float()
        self._check_scaled()
        self.metrics: dict[str, str] = dict(METRICS["forecasting"])
        if not self.naive_error[self.scored].any():  # mase would divide by zero
            del self.metrics["mase"]

    def _check_small(self, train: np.ndarray) -> None:
        """Check that no series of the training span `(rows, D)` varies by so little that its variance underflows."""
        largest = np.abs(train).max(axis=0)
        relative = train / np.where(largest > 0, largest, 1)
        varies = ~_is_constant(len(train), relative.mean(axis=0), relative.std(axis=0))
        small = varies & (relative.std(axis=0) * largest < _SMALLEST)
        if small.any():
            bad = int(np.flatnonzero(small)[0])
            raise DataError(
                f"{self.name}: the values of {self.series[bad]!r} are too small, up to {largest[bad]:.3g}: double "
                "precision cannot hold the squares of their deviations; give the series in a smaller unit, or leave it "
                "out with --series"
            )

    def _check_scaled(self) -> None:
        # The loss squares errors in single precision, and the squares must be finite too.
        wrong = ~(self.scaled.abs() < _LARGEST)
        if bool(wrong.any()):
            row, column = (int(part) for part in wrong.nonzero()[0])
            raise DataError(
                f"{self.name}: the value {self.values[row, column]:.6g} of {self.series[column]!r} at "
                f"{self.dates[row]} is {abs(float(self.scaled[row, column])):.3g} standard deviations of the training "
                "span from its mean, which single precision cannot hold; correct it, or leave the series out with "
                "--series"
            )

    def _mase_notes(self) -> tuple[str, ...]:
        """Return what a reader must know about mase, which is not defined for a series without a naive error."""
        defined, all_scored = int((self.naive_error[self.scored] > 0).sum()), len(self.scored)
        why = "the naive forecast, the value one season earlier, has no error on the training span"
        if not defined:
            return (f"{self.name}: mase is not defined, because {why}",)
        if defined < all_scored:
            return (f"{self.name}: mase is the mean of {defined} of {all_scored} series; for the others {why}",)
        return ()

    def _starts(self, split: str) -> Tensor:
        """Return the first input row of each window of a split."""
        start, end = self.spans[split]
        # Only a training window must be completely in its span. The input of a later window can use rows before its
        # span, because they are in the past.
        first = start if split == "train" else start - self.lookback
        return torch.arange(first, end - self.lookback - self.horizon + 1)

    def naive(self, split: str) -> Mapping[str, Mapping[str, float]]:
        """Return the metrics of each naive forecast on a split (`naive_baselines`)."""
        return naive_baselines(self, split)

    def preprocessing(self) -> dict[str, Any]:
        """Return the names of the series in order, and the mean and standard deviation that scale each series."""
        return {"series": list(self.series), "mean": self.mean.tolist(), "std": self.std.tolist()}

    def describe(self) -> dict[str, Any]:
        """Return the name, the hash of the data, the spans and the window lengths, as JSON-serialisable data."""
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
            **({"target": self.target} if self.target is not None else {}),
        }

    def train_batches(
        self, batch_size: int, *, seed: int, epoch: int, augmentation: str = "none", device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield each training window once, in a random order."""
        self.check_augmentation(augmentation)
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

    def loss(self, model: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of the scored series, on scaled values."""
        if self.target is not None:
            outputs, targets = outputs[..., self.scored], targets[..., self.scored]
        return torch.nn.functional.mse_loss(outputs, targets)

    def meter(self, split: str) -> Meter:
        """Return a meter of scaled forecasts `(B, horizon, D)` (see `evaluate`)."""
        return _ForecastMeter(self)

    def evaluate(self, outputs: Tensor, targets: Tensor) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics of N scaled forecasts `(N, horizon, D)`, and the mean squared error of each window.

        mse and mae are computed on scaled values, but smape and mase on original values.

        smape is `200·mean(|f − y| / (|f| + |y|))` for forecast f and target y, in percent, from 0 to 200. 0/0 counts as
        0. mase is the mean absolute error, divided by the mean absolute error of the seasonal naive forecast (the value
        one season earlier) on the training span. The ratio is computed for each series whose naive error is not 0, and
        then averaged (Hyndman & Koehler, Int. J. Forecasting 2006).
        """
        meter = _ForecastMeter(self)
        meter.update(outputs, targets)
        return meter.result()

    def unscale(self, values: np.ndarray) -> np.ndarray:
        """Convert scaled values `(..., D)` back to the units of the data."""
        return values * self.std + self.mean


class _ForecastMeter:
    """Computes the metrics of forecasts batch by batch. It stores one number for each window and metric."""

    def __init__(self, task: ForecastingTask) -> None:
        self._task = task
        # Plain numbers, because small arrays between the large ones keep the allocator from reusing the memory.
        self._windows: dict[str, list[float]] = {name: [] for name in task.metrics}

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take the forecasts and targets of a batch, `(B, horizon, D)`."""
        size = max(1, _CHUNK_VALUES // max(1, outputs[0].numel()))
        scored = self._task.scored
        for f, y in zip(outputs.detach().split(size), targets.detach().split(size), strict=True):
            self._add(*(t.cpu().double().numpy()[..., scored] for t in (f, y)))

    def _add(self, f: np.ndarray, y: np.ndarray) -> None:
        task, windows = self._task, self._windows
        difference = f - y
        windows["mse"] += (difference**2).mean(axis=(1, 2)).tolist()
        windows["mae"] += np.abs(difference).mean(axis=(1, 2)).tolist()
        std, mean = task.std[task.scored], task.mean[task.scored]
        f, y = f * std + mean, y * std + mean
        error, total = np.abs(f - y), np.abs(f) + np.abs(y)
        relative = np.divide(error, total, out=np.zeros_like(error), where=total > 0)
        windows["smape"] += (200 * relative.mean(axis=(1, 2))).tolist()
        if "mase" in windows:
            naive = task.naive_error[task.scored]
            varies = naive > 0
            windows["mase"] += (error.mean(axis=1)[:, varies] / naive[varies]).mean(axis=1).tolist()

    def result(self) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics of all windows, and the mean squared error of each."""
        windows = {name: np.array(values) for name, values in self._windows.items()}
        return {name: float(values.mean()) for name, values in windows.items()}, windows["mse"]


def naive_of(task: ForecastingTask, starts: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return scaled forecasts `(N, horizon, D)` of D series without a model, for N windows that start at given rows.

    Args:
        task: The task.
        starts: First input row of each window.
        names: The forecasts to compute, "last value" or "seasonal naive". None means those of `naive_names`.
    """
    first = starts[:, None] + task.lookback  # the first target row
    steps = torch.arange(task.horizon)
    rows = {
        "last value": (first - 1).expand(-1, task.horizon),
        "seasonal naive": first - task.season + steps % task.season,
    }
    return {name: task.scaled[rows[name]] for name in (naive_names(task, starts) if names is None else names)}


def naive_names(task: ForecastingTask, starts: Tensor) -> list[str]:
    """Return the naive forecasts of windows.

    "last value" repeats the last row of the input. "seasonal naive" repeats the last whole season before the target. It
    is left out if any target has less than a whole season of data before it.
    """
    is_seasonal = int(starts.min()) + task.lookback >= task.season
    return ["last value", *(["seasonal naive"] if is_seasonal else [])]


def naive_forecasts(task: ForecastingTask, split: str) -> dict[str, Tensor]:
    """Return the naive forecasts `(N, horizon, D)` of all N windows of a split (`naive_names`), in memory."""
    return naive_of(task, task.starts[task.check_split(split)])


def naive_baselines(task: ForecastingTask, split: str) -> dict[str, dict[str, float]]:
    """Return the metrics of each naive forecast on a split.

    Example:
        >>> from nasbench.tasks import create_task
        >>> sorted(naive_baselines(create_task("co2"), "val"))
        ['last value', 'seasonal naive']
    """
    starts = task.starts[task.check_split(split)]
    meters = {name: task.meter(split) for name in naive_names(task, starts)}
    batches = task.eval_batches(split, _BATCH)
    for part, (_, targets) in zip(starts.split(_BATCH), batches, strict=True):
        for name, forecast in naive_of(task, part, meters).items():
            meters[name].update(forecast, targets)
    return {name: meter.result()[0] for name, meter in meters.items()}


def _scored(series: list[str], target: str | None) -> list[int]:
    """Return the indices of the series that are scored."""
    if target is None:
        return list(range(len(series)))
    known = [name.strip() for name in series]
    if target.strip() not in known:
        raise UnknownNameError("series", target, known)
    return [known.index(target.strip())]


def _is_constant(rows: int, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return which columns are constant except for rounding, by the rule of scikit-learn's StandardScaler.

    The bound is the rounding error of a variance that is computed in two passes (Chan, Golub & LeVeque, Am.
    Statistician 1983).
    """
    eps = np.finfo(np.float64).eps
    variance = deviation**2
    return variance <= rows * eps * variance + (rows * mean * eps) ** 2


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
