"""The dates of a series: which column contains them, and how they are read.

A date such as 01/02/1990 has two readings. The right reading is the one in which the rows are evenly spaced. If there
is none, it is the one in which the dates ascend. If two different readings remain, the user must say which one is
right.
"""

from __future__ import annotations

import datetime
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nasbench.errors import DataError
from nasbench.tasks.series_steps import find_step

__all__ = ["ORDERS", "Dates", "find_dates", "is_date_like", "is_date_name", "listed"]

ORDERS = ("dayfirst", "monthfirst")
"""The orders in which day and month can be written."""

_YEAR_FIRST = "yearfirst"
"""The order of 20-01-31. It cannot be asked for, and counts only if the rows are evenly spaced in it."""

_ORDER_WORDS = {"dayfirst": "day before month", "monthfirst": "month before day", _YEAR_FIRST: "year before month"}

_YEAR = r"(?:1[5-9]|2\d)\d\d"
_DATE = (
    rf"(?P<ymd>{_YEAR}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|(?P<compact>{_YEAR}\d{{4}})(?=T)|{_YEAR}[-/]\d{{1,2}})"
    rf"|(?P<mixed>\d{{1,2}}[-/.]\d{{1,2}}[-/.](?:{_YEAR}|\d{{2}}))"
    rf"|(?P<my>\d{{1,2}}[-/]{_YEAR})"
)
_CLOCK = (
    r"(?P<hour>\d{1,2})(?::?(?P<minute>\d{2})(?::?(?P<second>\d{2}(?:\.\d+)?))?)?\s*(?:(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_ZONE = r"(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
# With the flag `a`, digits of other scripts are no digits. pandas cannot convert them.
_DATE_TIME = re.compile(rf"(?a:\s*(?:{_DATE})(?:(?:T|,?\s+){_CLOCK})?\s*{_ZONE}\s*)")
_TIME = re.compile(rf"(?a:\s*(?=\d{{1,2}}:){_CLOCK}\s*{_ZONE}\s*)")
# Letters (a month's name) and a year of four digits are both needed, so that a word such as "may" is not a date.
_IN_WORDS = re.compile(rf"(?=.*[A-Za-z]{{3}})(?:.*(?<!\d))?{_YEAR}(?!\d).*")

_NAMED = re.compile(r"date|time|stamp|epoch|unix|day|month|year|period|^ds$|^ts$|^t$|datum|zeit|fecha", re.IGNORECASE)
"""A column of numbers can be dates only if its name matches this, or if it is the first column."""

_FEWEST = 0.9
"""If at least this share of a column's cells are dates, every other cell is an error. With fewer dates, the column is
text."""

# The format of a date without separators, by its number of digits. Other numbers can be epochs.
_COMPACT = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_EPOCHS = {"s": 1e0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_EPOCH_SPAN = (1e8, 4.2e9)
"""The numbers of seconds since 1970 that are read as an epoch: the years 1973 to 2103."""


@dataclass(frozen=True)
class Dates:
    """The dates of a table.

    Attributes:
        index: The date of each row.
        columns: The columns from which the dates were read: one column, or one of days and one of times of day.
        others: Further columns of dates, which are not used.
        form: How the dates were read, in words for the user.
    """

    index: pd.DatetimeIndex
    columns: tuple[str, ...]
    others: tuple[str, ...] = ()
    form: str = ""


@dataclass(frozen=True)
class _Column:
    """A column of dates with its readings by order of day and month. The key is "" if the order does not matter."""

    name: str
    readings: dict[str, pd.DatetimeIndex]
    facts: tuple[str, ...]
    has_times: bool


def is_date_like(cell: str) -> bool:
    """Return whether a cell looks like a date, a time or both.

    Example:
        >>> is_date_like("31.01.2024 13:00"), is_date_like("may"), is_date_like("12.5")
        (True, False, False)
    """
    return bool(_DATE_TIME.fullmatch(cell) or _TIME.fullmatch(cell) or _IN_WORDS.fullmatch(cell))


def is_date_name(name: str) -> bool:
    """Return whether the name of a column says that it contains dates."""
    return bool(_NAMED.search(name))


def listed(names: Iterable[str], most: int) -> str:
    """Return the first names in words, at most `most` of them, and how many more there are."""
    shown = list(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return f"{', '.join(shown[:most])}{more}"


def find_dates(table: pd.DataFrame, order: str | None, path: object, line: Callable[[int], int]) -> Dates:
    """Find the column of dates and read it.

    Args:
        table: The columns of the file. A column of text has missing values as NaN.
        order: The order of day and month, one of `ORDERS`. With None, the order is found from the dates.
        path: The file, for messages.
        line: Function that returns on which line of the file a row of the table is.

    Raises:
        DataError: If there is no column of dates, if one of its cells is not a date, or if the order of day and month
            is not clear.
    """
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    columns = [column for name in texts if (column := _read_text(table[name], path, line)) is not None]
    if not columns:
        numbers = [name for name in table.columns if name not in texts]
        named = [name for name in numbers if is_date_name(name) or name == table.columns[0]]
        columns = [column for name in named if (column := _read_numbers(table[name])) is not None][:1]
    if not columns:
        raise DataError(
            f"{path} has no date column (columns: {listed(map(str, table.columns), 10)}); one column must contain a "
            "date in every row, such as 2024-01-31 or 2024-01-31 13:00"
        )
    chosen = next((c for c in columns if any(map(_ascends, c.readings.values()))), columns[0])
    used: tuple[str, ...] = (chosen.name,)
    if not chosen.has_times and (times := _times_beside(table, texts, chosen)) is not None:
        name, offsets = times
        chosen = _Column(chosen.name, {k: v + offsets for k, v in chosen.readings.items()}, chosen.facts, True)
        used = (chosen.name, name)
    index, form = _settled(chosen, order, path, line)
    return Dates(index, used, tuple(c.name for c in columns if c.name not in used), form)


def _settled(
    column: _Column, order: str | None, path: object, line: Callable[[int], int]
) -> tuple[pd.DatetimeIndex, str]:
    """Choose a reading. Return its dates and how they were read."""
    if "" in column.readings:  # the order of day and month does not matter
        return column.readings[""], ", ".join(column.facts)
    readings = {known: column.readings[known] for known in ORDERS if known in column.readings}
    if order is not None:
        if order not in readings:
            (other,) = readings
            raise DataError(
                f"{path}: the dates in {column.name!r} cannot be read with --dates {order}, because a month would be "
                f"above 12; use --dates {other}"
            )
        return readings[order], ", ".join([f"{_ORDER_WORDS[order]} as given", *column.facts])
    even = {order: dates for order, dates in readings.items() if _is_even(dates)}
    year_first = column.readings.get(_YEAR_FIRST)
    if year_first is not None:
        for known, dates in even.items():
            for row in np.flatnonzero(dates != year_first)[:1]:
                raise DataError(
                    f"{path}: the dates in {column.name!r} are ambiguous: line {line(int(row))} can be "
                    f"{_spelled(dates[row])} or {_spelled(year_first[row])}; write the years with four digits, or give "
                    f"--dates {known} if it is right"
                )
        even = even or {_YEAR_FIRST: year_first}
    right = even or {order: dates for order, dates in readings.items() if _ascends(dates)} or readings
    first, *others = right
    if others and not right[first].equals(right[others[0]]):
        days, months = right["dayfirst"], right["monthfirst"]
        row = int(np.flatnonzero(days != months)[0])
        raise DataError(
            f"{path}: the dates in {column.name!r} are ambiguous: line {line(row)} can be {_spelled(days[row])} or "
            f"{_spelled(months[row])}; say which with --dates dayfirst or --dates monthfirst"
        )
    why = (
        "no other order is possible"
        if len(readings) == 1 and first in readings
        else "the rows are evenly spaced only in this order"
    )
    why = "both orders are the same" if others else why
    return right[first], ", ".join([f"{_ORDER_WORDS[first]} ({why})", *column.facts])


def _spelled(date: pd.Timestamp) -> str:
    return f"{date.day} {date:%B %Y}"


def _ascends(dates: pd.DatetimeIndex) -> bool:
    return bool(dates.is_monotonic_increasing and dates.is_unique)


def _is_even(dates: pd.DatetimeIndex) -> bool:
    """Return whether the dates ascend on a grid without missing rows."""
    if not _ascends(dates):
        return False
    step = find_step(dates)
    return step is None if len(dates) < 2 else step is not None and step.positions(dates)[-1] == len(dates) - 1


def _read_text(cells: pd.Series, path: object, line: Callable[[int], int]) -> _Column | None:
    """Read a column of text. Return None if it is not a column of dates."""
    name, cells = str(cells.name), cells.astype(object)
    head = [cell for cell in cells.head(100) if isinstance(cell, str)]
    if sum(bool(_DATE_TIME.fullmatch(cell)) for cell in head) > len(head) / 2:
        parts = cells.str.extract(rf"^{_DATE_TIME.pattern}$")
        readings = _readings(parts)
        clock, has_times = _clock(parts)
        zones = parts["zone"]
        dates = {order: _zoned(days + clock, zones) for order, days in readings.items()}
        if _YEAR_FIRST in dates and not _is_even(pd.DatetimeIndex(dates[_YEAR_FIRST])):
            del dates[_YEAR_FIRST]
    elif head and sum(bool(_IN_WORDS.fullmatch(cell)) for cell in head) > len(head) / 2:
        dates, has_times, zones = {"": _in_words(cells)}, True, pd.Series(dtype=object)
    else:
        return None
    share = {order: float(read.notna().mean()) for order, read in dates.items()}
    best = max(share.values(), default=0.0)
    if best < _FEWEST:
        return None
    if best < 1:
        wrong = int(np.flatnonzero(dates[max(share, key=lambda order: share[order])].isna())[0])
        cell = cells.iloc[wrong]
        told = f"{cell!r} is not a date" if isinstance(cell, str) else "the date is missing"
        raise DataError(
            f"{path}, line {line(wrong)}, column {name!r}: {told}; every row needs one, so correct the cell or remove "
            "the row"
        )
    valid = {order: pd.DatetimeIndex(read) for order, read in dates.items() if share[order] == 1}
    return _Column(name, valid, _zone_facts(zones), has_times)


def _readings(parts: pd.DataFrame) -> dict[str, pd.Series]:
    """For each order of day and month, return the day of each row. Cells that are no date in this order give NaT."""
    ymd = parts["ymd"].str.replace(f"^({_YEAR})(\\d\\d)(\\d\\d)$", r"\1-\2-\3", regex=True)
    if ymd.notna().any():
        return {"": _days(ymd.str.extract(r"^(?P<year>\d+).(?P<month>\d+)(?:.(?P<day>\d+))?$").fillna({"day": "1"}))}
    if parts["my"].notna().any():
        return {"": _days(parts["my"].str.extract(r"^(?P<month>\d+).(?P<year>\d+)$").assign(day="1"))}
    cut = parts["mixed"].str.extract(r"^(?P<first>\d+).(?P<second>\d+).(?P<year>\d+)$")
    year = _whole_years(cut["year"])
    first, second = {"year": year, "day": cut["first"]}, {"year": year, "day": cut["second"]}
    readings = {
        "dayfirst": _days(pd.DataFrame({**first, "month": cut["second"]})),
        "monthfirst": _days(pd.DataFrame({**second, "month": cut["first"]})),
    }
    if parts["mixed"].str.fullmatch(r"\d\d-\d\d-\d\d").all():
        third = {"year": _whole_years(cut["first"]), "month": cut["second"], "day": cut["year"]}
        readings[_YEAR_FIRST] = _days(pd.DataFrame(third))
    return readings


def _whole_years(cells: pd.Series) -> pd.Series:
    """Read years. Those of two digits are read as in POSIX: 69 to 99 as 1969 to 1999, and 00 to 68 as 2000 to 2068."""
    years = pd.to_numeric(cells)
    return years.where(cells.str.len() != 2, years + np.where(years < 69, 2000, 1900))


def _days(parts: pd.DataFrame) -> pd.Series:
    numbers = parts[["year", "month", "day"]].apply(pd.to_numeric)
    return pd.to_datetime(numbers, errors="coerce").astype("datetime64[us]")


def _clock(parts: pd.DataFrame) -> tuple[pd.Series, bool]:
    """Return the time of day of each row, and whether any row has one. The time 24:00 means the next midnight."""
    numbers = parts[["hour", "minute", "second"]].apply(pd.to_numeric)
    has_times = bool(numbers["hour"].notna().any())
    hours = numbers["hour"].fillna(0)
    half = parts["half"].str.lower()
    hours = hours.where(half.isna(), hours % 12 + 12 * (half == "p"))
    # The second 60 is a leap second, so it is valid.
    bad = (hours > 24) | (numbers["minute"] > 59) | (numbers["second"] >= 61)
    micro = ((hours * 60 + numbers["minute"].fillna(0)) * 60 + numbers["second"].fillna(0)) * 1e6
    return pd.to_timedelta(micro.where(~bad).round(), unit="us").astype("timedelta64[us]"), has_times


def _zoned(wall: pd.Series, zones: pd.Series) -> pd.Series:
    """Give the dates the UTC offset that the cells state.

    If the cells state different offsets, for instance in summer and in winter, convert all dates to UTC.
    """
    present = zones.dropna().unique()
    if not len(present):
        return wall
    offsets = {zone: _offset(zone) for zone in present}
    if len(set(offsets.values())) == 1 and zones.notna().all():
        (offset,) = set(offsets.values())
        return wall.dt.tz_localize(datetime.timezone(offset) if offset else datetime.UTC)
    shift = pd.to_timedelta(zones.map(offsets).fillna(pd.Timedelta(0)))
    return (wall - shift).dt.tz_localize(datetime.UTC)


def _offset(zone: str) -> datetime.timedelta:
    if zone in ("Z", "UTC", "GMT"):
        return datetime.timedelta()
    sign, digits = (-1 if zone[0] == "-" else 1), zone[1:].replace(":", "").ljust(4, "0")
    return sign * datetime.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))


def _zone_facts(zones: pd.Series) -> tuple[str, ...]:
    present = sorted(map(str, zones.dropna().unique()))
    if len(present) < 2:
        return tuple(f"offset {zone}" for zone in present)
    return (f"converted to UTC from {' and '.join(present)}",)


def _in_words(cells: pd.Series) -> pd.Series:
    """Read dates with names of months, such as "31 Jan 2024"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns of forms that it may read differently in a later version
        try:
            return pd.Series(pd.to_datetime(cells, format="mixed", errors="coerce"))
        except ValueError:  # different offsets to UTC
            return pd.Series(pd.to_datetime(cells, format="mixed", errors="coerce", utc=True))


def _read_numbers(values: pd.Series) -> _Column | None:
    """Read a column of numbers: dates such as 20240131, or an epoch in seconds or parts of a second."""
    name = str(values.name)
    if not len(values) or values.isna().any() or bool((values <= 0).any()):
        return None
    if bool((values % 1 == 0).all()):
        digits = values.astype("int64").astype(str)
        lengths = digits.str.len().unique()
        known = _COMPACT.get(int(lengths[0])) if len(lengths) == 1 else None
        if known and bool(digits.str.match(_YEAR).all()):
            dates = pd.to_datetime(digits, format=known, errors="coerce")
            if dates.notna().all():
                return _Column(name, {"": pd.DatetimeIndex(dates)}, (f"written as {known}",), len(digits.iloc[0]) > 8)
    for unit, per_second in _EPOCHS.items():
        seconds = values / per_second
        if bool(seconds.between(*_EPOCH_SPAN).all()):
            micro = (values * (1e6 / per_second)).round().astype("int64") if unit != "ns" else values // 1000
            index = pd.DatetimeIndex(pd.to_datetime(micro.astype("int64"), unit="us"))
            return _Column(name, {"": index}, (f"epoch in {unit}, UTC",), True)
    return None


def _times_beside(table: pd.DataFrame, texts: list[str], dates: _Column) -> tuple[str, pd.TimedeltaIndex] | None:
    """If days are repeated in the column of dates, return the column of times of day, if there is one."""
    if all(index.is_unique for index in dates.readings.values()):
        return None
    for name in texts:
        cells = table[name].astype(object)
        if name == dates.name or not len(cells) or not _TIME.fullmatch(str(cells.iloc[0])):
            continue
        clock, _ = _clock(cells.str.extract(rf"^{_TIME.pattern}$"))
        if bool(cells.str.fullmatch(_TIME.pattern).all()) and bool(clock.notna().all()):
            return name, pd.TimedeltaIndex(clock)
    return None
