"""The time step of a series: which step its dates have, which rows are missing, and how many rows a season has.

All dates of a series lie on a grid: equal spans of time, business days (Monday to Friday) or calendar months. A file
can leave out rows of the grid, but it cannot have rows between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

__all__ = ["Step", "find_step", "season", "usual_steps"]

_MICROSECONDS = (("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000), ("second", 1_000_000))
_DAY = 86_400_000_000
_YEAR_DAYS = 365.25


@dataclass(frozen=True)
class Step:
    """The step between two rows.

    Attributes:
        unit: "time", "business day" or "month".
        size: The length: microseconds for "time", otherwise the number of business days or months.
    """

    unit: Literal["time", "business day", "month"]
    size: int

    def __str__(self) -> str:
        if self.unit != "time":
            return _counted(self.size, self.unit)
        for name, length in _MICROSECONDS:
            if self.size % length == 0:
                return _counted(self.size // length, name)
        return f"{self.size / 1_000_000:g} seconds"

    @property
    def season(self) -> int:
        """The number of rows in a season.

        The season is a day for steps below a day, a week for steps below a week, and otherwise a year. A week has five
        business days.
        """
        if self.unit == "business day":
            return 5
        if self.unit == "month":
            return max(1, round(12 / self.size))
        return _season_of(self.size / _DAY)

    def positions(self, dates: pd.DatetimeIndex) -> np.ndarray:
        """Return the number of each date on the grid, which begins with the first date as number 0.

        A date that lies between two rows of the grid gives NaN.

        Args:
            dates: Ascending dates.
        """
        wall = _wall(dates)
        if self.unit == "time":
            return _quotients(_microseconds(wall) - _microseconds(wall)[0], self.size)
        if self.unit == "business day":
            days = wall.to_numpy().astype("datetime64[D]")
            counts = np.busday_count(days[0], days).astype(float)
            return np.where(np.is_busday(days) & _same_time(wall), counts, np.nan)
        months = np.asarray(wall.year * 12 + wall.month)
        # If the dates are on day 31, a shorter month has its last day instead. So 30 June and 31 July lie on one grid.
        days = np.minimum(wall.day.max(), wall.days_in_month)
        return np.where((wall.day == days) & _same_time(wall), _quotients(months - months[0], self.size), np.nan)

    def grid(self, dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Return all dates of the grid from the first to the last of `dates`."""
        wall = _wall(dates)
        rows = np.arange(int(self.positions(dates)[-1]) + 1)
        if self.unit == "time":
            whole = wall[0] + pd.to_timedelta(rows * self.size, unit="us")
        elif self.unit == "business day":
            whole = pd.bdate_range(wall[0], wall[-1])
        else:
            months = wall[0].year * 12 + wall[0].month - 1 + rows * self.size
            firsts = pd.to_datetime(pd.DataFrame({"year": months // 12, "month": months % 12 + 1, "day": 1}))
            days = np.minimum(wall.day.max(), firsts.dt.days_in_month) - 1
            whole = pd.DatetimeIndex(firsts + pd.to_timedelta(days, unit="D") + (wall[0] - wall[0].normalize()))
        return whole.as_unit(wall.unit).tz_localize(dates.tz)


def find_step(dates: pd.DatetimeIndex) -> Step | None:
    """Return the step of ascending dates, or None if they do not all lie on one grid. Rows can be missing.

    Example:
        >>> str(find_step(pd.DatetimeIndex(["1990-01-01", "1990-02-01", "1990-03-01", "1990-05-01"])))
        '1 month'
    """
    return next((step for step in usual_steps(dates) if not np.isnan(step.positions(dates)).any()), None)


def usual_steps(dates: pd.DatetimeIndex) -> list[Step]:
    """Return the steps that most rows can have, the most probable first. Empty for fewer than two dates."""
    if len(dates) < 2:
        return []
    wall = _wall(dates)
    usual = _most_frequent(np.diff(_microseconds(wall)))
    if usual >= 28 * _DAY:  # the shortest month
        months = _most_frequent(np.diff(np.asarray(wall.year * 12 + wall.month)))
        return [Step("month", months), Step("time", usual)] if months > 0 else [Step("time", usual)]
    weekdays = wall.day_of_week
    # Without a weekend among the dates, a few weekdays can also belong to a daily series.
    over_a_weekend = bool((np.diff(weekdays) < 0).any())
    if usual == _DAY and over_a_weekend and bool((weekdays < 5).all()):
        return [Step("business day", 1), Step("time", usual)]
    return [Step("time", usual)]


def season(dates: pd.DatetimeIndex) -> int:
    """Return the number of rows in a season (`Step.season`). For uneven dates, the median distance is the step."""
    if (step := find_step(dates)) is not None:
        return step.season
    return _season_of(pd.Timedelta(pd.Series(dates).diff().median()) / pd.Timedelta(days=1))


def _season_of(days: float) -> int:
    around = 1 if days < 1 else 7 if days < 7 else _YEAR_DAYS
    return max(1, round(around / days))


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _wall(dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return the dates as the clock of their time zone shows them. Calendar months begin at this clock's midnight."""
    return dates.tz_localize(None) if dates.tz is not None else dates


def _microseconds(wall: pd.DatetimeIndex) -> np.ndarray:
    return wall.as_unit("us").asi8


def _most_frequent(lengths: np.ndarray) -> int:
    values, counts = np.unique(lengths, return_counts=True)
    return int(values[counts.argmax()])


def _quotients(distances: np.ndarray, size: int) -> np.ndarray:
    return np.where(distances % size == 0, distances // size, np.nan)


def _same_time(wall: pd.DatetimeIndex) -> np.ndarray:
    times = wall - wall.normalize()
    return np.asarray(times == times[0])
