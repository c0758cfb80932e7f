"""The spans of the splits of a series, its gaps, and the calendar of its dates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from nasbench.errors import DataError, InputError
from nasbench.tasks.series_reader import Series, refuse_missing
from nasbench.tasks.series_steps import Step, find_step

__all__ = [
    "CALENDAR",
    "FILLS",
    "Spans",
    "calendar",
    "co2",
    "ett_spans",
    "fill_gaps",
    "ratio_spans",
]

FILLS = ("linear", "forward")
"""The ways to fill missing values."""

CALENDAR = ("hour of day", "day of week", "day of month", "day of year")
"""The covariates of a time step, in the order of the columns."""

Spans = dict[str, tuple[int, int]]
"""For each split, its first row and the row after its last row."""

_HOUR_US = 3_600_000_000


def co2() -> Series:
    """Return the weekly CO2 record of Mauna Loa, 1958 to 2001, from statsmodels. 59 of its 2,284 weeks are missing."""
    from statsmodels.datasets import co2 as data

    return Series(data.load_pandas().data)


def ratio_spans(rows: int) -> Spans:
    """Return spans in time order: 70 % training, 10 % validation, 20 % test rows, as in Informer's `custom` data."""
    train, test = int(rows * 0.7), int(rows * 0.2)
    return {"train": (0, train), "val": (train, rows - test), "test": (rows - test, rows)}


def ett_spans(frame: pd.DataFrame, path: Path) -> Spans:
    """Return ETT's spans: 12, 4 and 4 months, each of 30 days (Zhou et al., AAAI 2021, arXiv:2012.07436).

    Later rows are not used.

    Raises:
        DataError: If the time step is neither an hour nor 15 minutes, or there are fewer than 20 months.
    """
    step = find_step(pd.DatetimeIndex(frame.index))
    if step not in (Step("time", _HOUR_US), Step("time", _HOUR_US // 4)):
        raise DataError(f"{path}: ETT data has a row every hour or 15 minutes, this one every {step}; use csv:{path}")
    month = 30 * 24 * _HOUR_US // step.size
    if len(frame) < 20 * month:
        raise DataError(f"{path}: the ETT splits take 20 months, {20 * month} rows, got {len(frame)}; use csv:{path}")
    return {"train": (0, 12 * month), "val": (12 * month, 16 * month), "test": (16 * month, 20 * month)}


def calendar(index: pd.DatetimeIndex) -> np.ndarray:
    """Return the `CALENDAR` of each date, `(rows, 4)`, scaled as in Informer.

    For example, the hour of day runs from -0.5 for 0 h to 0.5 for 23 h."""
    features = [index.hour / 23, index.day_of_week / 6, (index.day - 1) / 30, (index.day_of_year - 1) / 365]
    return np.stack([np.asarray(feature, np.float64) for feature in features], axis=1) - 0.5


def fill_gaps(frame: pd.DataFrame, spans: Spans, fill: str | None) -> tuple[pd.DataFrame, dict[str, int]]:
    """Fill the missing values of each span from values of the same span and of earlier spans only.

    Args:
        frame: Series with NaN for missing values.
        spans: The spans of the splits, in time order.
        fill: "linear" interpolates between neighbours, and repeats the last value if a gap is at the end of a span.
            "forward" repeats the last value. None fills nothing.

    Returns:
        The series without gaps, and the number of values that were filled in each split.

    Raises:
        InputError: If `fill` is none of these values.
        DataError: If values are missing and `fill` is None, or a series begins with missing values.
    """
    if fill is not None and fill not in FILLS:
        raise InputError(f"fill is {fill!r}; allowed: {', '.join(FILLS)}")
    used = frame.iloc[: max(end for _, end in spans.values())]
    missing = used.isna()
    counts = {split: int(missing.iloc[a:b].to_numpy().sum()) for split, (a, b) in spans.items()}
    if fill is None:
        refuse_missing(used)
    filled = used.copy()
    for start, end in spans.values():
        known = filled.iloc[:end]  # nothing after the span, so that no split uses values of a later split
        whole = known.interpolate("linear") if fill == "linear" else known.ffill()
        filled.iloc[start:end] = whole.iloc[start:end]
    unfilled = [str(c) for c in filled.columns if filled[c].isna().any()]
    if unfilled:
        raise DataError(
            f"series that begin with missing values: {', '.join(unfilled)}; no earlier value can fill them, so remove "
            "the rows up to the first complete one, or these columns"
        )
    return filled, counts
