"""Read time series from a text table or a spreadsheet, and say what was read.

The dialect, the dates and the time step are recognised. If something cannot be recognised, an error names the line, the
column and the cell, and the option that helps.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nasbench.errors import DataError, InputError, UnknownNameError
from nasbench.tasks.series_dates import ORDERS, Dates, find_dates, listed
from nasbench.tasks.series_dialect import UNREADABLE, Dialect, find_dialect, is_number, lines_of
from nasbench.tasks.series_steps import Step, find_step, usual_steps

__all__ = ["Series", "choose", "read_series", "refuse_missing"]

_SPREADSHEETS = (".xlsx", ".xlsm")

_MARKS = frozenset({"-", "--", "---", ".", "..", "?", "*", "x", "X", "nil", "missing", "\N{EN DASH}", "\N{EM DASH}"})
"""What people write into a cell for a missing value. With `fill`, such a cell counts as missing. Otherwise it is an
error in a column of numbers."""

_NUMBER_LIKE = re.compile(r"[+-]?\s*[$€£]?\s*\d[\d.,' \u00a0\u202f]*([eE][+-]?\d+)?\s*(%|[^\W\d_]{0,3})")
"""A number as people write it: with thousands separators, a currency, a per cent sign or a short unit."""

_THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,' \u00a0\u202f]\d{3})+([.,]\d+)?")

_INDEX_NAMES = frozenset(
    {"id", "idx", "index", "level_0", "row", "rows", "row_id", "rowid", "row_number", "rownumber", "rownum", "line",
     "record", "no", "nr", "num", "number", "n", "#", "obs"}
)  # fmt: skip
"""Names, in lower case, of columns that only count the rows."""

_MOST_NAMED = 6
"""Number of columns that the summary names."""


@dataclass(frozen=True)
class Series:
    """Several series over one time axis.

    Attributes:
        frame: The index has ascending dates, and each column of floats is a series. Missing values are NaN.
        notes: Sentences about the columns that were left out when the file was read.
        read: What was read, as short texts. The keys are file, dates, step, series and left out.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    read: dict[str, str] = field(default_factory=dict)


def read_series(
    path: Path,
    *,
    dates: str | None = None,
    columns: Sequence[str] = (),
    fill: str | None = None,
    used: Callable[[pd.DataFrame], int] = len,
) -> Series:
    """Read a text table or a spreadsheet with a column of dates. Every other column of numbers is a series.

    Args:
        path: The file.
        dates: Order of day and month, "dayfirst" or "monthfirst". With None, the order is found from the dates.
        columns: Names of the series to read. Empty means all.
        fill: If it is given, missing rows are added. Their values stay NaN here, like missing cells, and are filled
            later.
        used: Function that returns how many rows of the frame are used, from the first. After them, a cell can be
            missing without `fill`.

    Raises:
        DataError: If the file is not a table, if it has no column of dates or of numbers, if a cell of a series is
            missing without `fill` or is not a finite number, if a mark can separate thousands or decimals, or if the
            dates do not ascend in even steps.
        UnknownNameError: If a name of `columns` is not a column of numbers.
        InputError: If `dates` is not allowed, or if the file is a spreadsheet and the optional dependency
            `nasbench[xlsx]` is not installed.
    """
    if dates is not None and dates not in ORDERS:
        raise InputError(f"dates is {dates!r}; allowed: {', '.join(ORDERS)}")
    file = _File.read(path)
    found = find_dates(file.table, dates, path, file.line)
    kept, left_out = _numeric(file, found, columns, fill)
    _check_finite(file, kept)
    _check_digits(file, kept)
    _check_mark(file, kept)
    frame = kept.astype(float)
    frame.index = found.index
    _check_order(file, found)
    step, added, frame = _even(file, found, frame, fill)
    if fill is None:
        _check_missing(file, frame.iloc[: used(frame)])
    texts = [name for name, why in left_out.items() if why == "not numeric"]
    notes = [f"{path.name}: not numeric, left out: {', '.join(texts)}"] if texts else []
    if added:
        notes.append(f"{path.name}: {_rows(added)} missing in the file, filled")
    read = {
        "file": f"{path.name}: {file.told}, {_rows(len(file.table))}",
        "dates": f"{' and '.join(found.columns)}, {frame.index[0]} to {frame.index[-1]}"
        + (f"; {found.form}" if found.form else ""),
        "step": _step_told(step, added, frame.index),
        "series": f"{len(frame.columns)}: {listed(map(str, frame.columns), _MOST_NAMED)}",
    }
    if left_out:
        read["left out"] = listed((f"{name} ({why})" for name, why in left_out.items()), _MOST_NAMED)
    return Series(frame, tuple(notes), read)


def choose(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the columns with these names, in the order of the frame. If no names are given, return all columns.

    Raises:
        UnknownNameError: If one of the names is not a column of the frame.
    """
    known = {str(name).strip(): name for name in frame.columns}
    for name in columns:
        if name.strip() not in known:
            raise UnknownNameError("series", name, known)
    return frame[[known[name] for name in known if name in {c.strip() for c in columns}]] if columns else frame


def refuse_missing(frame: pd.DataFrame, where: str = "") -> None:
    """Raise a DataError if values of a frame are missing. `where` says where the first one is."""
    counts = frame.isna().sum()
    if counts.any():
        worst = ", ".join(f"{name} ({count})" for name, count in counts.items() if count)
        raise DataError(
            f"{counts.sum()} value{' is' if counts.sum() == 1 else 's are'} missing: {worst}; {where}fill them with "
            "--fill linear (between the neighbours) or --fill forward (the last known value)"
        )


@dataclass(frozen=True)
class _File:
    """A file as it was read. Cells that are not numbers are kept as text.

    Attributes:
        path: The file.
        table: The columns.
        told: How the file is written, in words for the user.
        dialect: The dialect of the text.
        sheet: The cells of a spreadsheet as CSV text, whose rows count as lines of the file. None for a text file.
    """

    path: Path
    table: pd.DataFrame
    told: str
    dialect: Dialect
    sheet: str | None = None

    @classmethod
    def read(cls, path: Path) -> _File:
        if path.suffix.lower() in _SPREADSHEETS:
            return cls._of_sheet(path)
        dialect = find_dialect(path)
        return cls(path, _table(path, path, dialect), str(dialect), dialect)

    @classmethod
    def _of_sheet(cls, path: Path) -> _File:
        try:
            cells = pd.read_excel(path, header=None, dtype=object, engine="openpyxl")
        except ImportError:
            raise InputError(
                f"{path} is a spreadsheet, which needs openpyxl: install nasbench[xlsx], or save it as CSV"
            ) from None
        except Exception as error:  # openpyxl raises whatever its zip and XML parsers raise
            raise DataError(f"{path} cannot be read as a spreadsheet: {error}") from None
        # The cells are converted to CSV text, so that the same code recognises the dates and numbers of both kinds of
        # files.
        text = cells.to_csv(index=False, header=False)
        dialect = find_dialect(path, text)
        told = f"spreadsheet, {'header row' if dialect.header else 'no header row'}"
        return cls(path, _table(path, io.StringIO(text), dialect), told, dialect, text)

    def line(self, row: int) -> int:
        """Return on which line of the file a row of the table is.

        Lines count from 1, including the header and blank lines.
        """
        number = row + self.dialect.header
        if self.sheet is not None:
            return number + 1
        with lines_of(self.path, self.dialect.encoding) as lines:
            return next((at for at, _ in islice(lines, number, None)), number + 1)

    def place(self, row: int, name: str) -> tuple[str, str]:
        """Return, as phrases, where a cell is, and what it contains as it is written."""
        return f"line {self.line(row)}, column {name!r}", repr(self.texts([name])[name].iloc[row])

    def texts(self, names: Sequence[str]) -> pd.DataFrame:
        """Return the cells of columns as they are written. A cell that a short row does not have is ""."""
        source = self.path if self.sheet is None else io.StringIO(self.sheet)
        options = {"usecols": names, "dtype": str, "keep_default_na": False}
        return _table(self.path, source, self.dialect, **options).fillna("")


def _table(path: Path, source: Path | io.StringIO, dialect: Dialect, **options: Any) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # If a row is longer than the others, pandas drops cells of it and only warns. Here this is an error.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                source,
                sep=dialect.separator,
                decimal=dialect.decimal,
                encoding=dialect.encoding,
                header=0 if dialect.header else None,
                names=list(dialect.names),
                index_col=False,
                low_memory=False,  # otherwise each block of rows is converted alone, and a column can mix types
                **options,
            )
    # The parser errors of pandas are ValueErrors.
    except (ValueError, pd.errors.ParserWarning, *UNREADABLE) as error:
        raise DataError(f"{path} cannot be read as a CSV ({dialect}): {error}") from None


def _numeric(
    file: _File, found: Dates, columns: Sequence[str], fill: str | None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the columns of numbers, and why each other column was left out."""
    table = file.table
    left_out = dict.fromkeys(found.others, "further dates")
    rest = table.drop(columns=[*found.columns, *found.others])
    wanted = set(choose(rest, columns).columns) if columns else None
    kept = {}
    for name in rest.columns:
        if wanted is not None and name not in wanted:
            left_out[name] = "not chosen"
        elif rest[name].isna().all() and wanted is None:
            left_out[name] = "empty"
        elif wanted is None and _is_index(rest[name], named=name not in file.dialect.unnamed):
            left_out[name] = "row numbers"
        elif (values := _numbers(file, rest[name], fill, chosen=wanted is not None)) is not None:
            kept[name] = values
        else:
            left_out[name] = "not numeric"
    if not kept:
        others = listed(map(str, rest.columns), 10) or "none"
        raise DataError(
            f"{file.path} has no numeric column besides its dates (others: {others}); a series is a column of numbers, "
            "in which missing values are empty cells"
        )
    return pd.DataFrame(kept), left_out


def _is_index(values: pd.Series, *, named: bool) -> bool:
    """Return whether a column only counts the rows, like an index column written by pandas.

    A column that has a name must have a usual name of an index and start at 0 or 1. Otherwise it is a series.
    """
    if named and (str(values.name).strip(" .").casefold() not in _INDEX_NAMES or values.iloc[0] not in (0, 1)):
        return False
    return bool(pd.api.types.is_integer_dtype(values) and (values.diff().dropna() == 1).all())


def _numbers(file: _File, cells: pd.Series, fill: str | None, *, chosen: bool) -> pd.Series | None:
    """Return a column of numbers, or None if it is a column of text.

    Raises:
        DataError: If a cell of a column of numbers, or of a chosen column, is not a number.
    """
    if pd.api.types.is_bool_dtype(cells):
        return cells.astype(float) if chosen else None
    if pd.api.types.is_numeric_dtype(cells):
        return cells
    decimal = file.dialect.decimal
    texts = cells.dropna().astype(str)
    fine = texts.map(lambda cell: is_number(cell, decimal))
    marks = texts.str.strip().isin(_MARKS)
    like = fine | texts.map(lambda cell: bool(_NUMBER_LIKE.fullmatch(cell.strip())))
    # A column in which at most half of the cells look like numbers is text. Marks of missing values do not count.
    if not chosen and like.sum() <= (len(texts) - marks.sum()) / 2:
        return None
    wrong = texts[~fine & ~marks] if fill is not None else texts[~fine]
    if len(wrong):
        row = int(cells.index.get_loc(wrong.index[0]))  # type: ignore[arg-type]
        raise DataError(
            f"{file.path}, line {file.line(row)}, column {str(cells.name)!r}: {wrong.iloc[0]!r} is not a number; "
            f"{_remedy(wrong.iloc[0], decimal)}, or name the columns to read with --series"
        )
    numbers = cells.where(cells.isna() | ~cells.index.isin(texts.index[marks]))
    return numbers.astype(object).map(lambda c: str(c).replace(decimal, "."), na_action="ignore").astype(float)


def _check_finite(file: _File, kept: pd.DataFrame) -> None:
    """Check that every number is finite in double precision, where 1e400 is infinite."""
    for name, values in kept.items():
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            where, written = file.place(int(infinite[0]), str(name))
            raise DataError(
                f"{file.path}, {where}: {written} is not a finite number (at most 1.8e308); correct it, or leave it "
                "empty and give --fill linear, or name the columns to read with --series"
            )


def _check_digits(file: _File, kept: pd.DataFrame) -> None:
    """Check that no two different whole numbers become one number in double precision."""
    for name in kept.columns[kept.abs().max() > 2**53]:
        texts = file.texts([name])[name].str.strip()
        whole = texts[texts.str.fullmatch(r"[+-]?\d+")]
        merged = np.flatnonzero(kept[name][whole.index].astype(float).duplicated() & ~whole.duplicated())
        if len(merged):
            where, written = file.place(int(whole.index[merged[0]]), str(name))
            raise DataError(
                f"{file.path}, {where}: {written} is the same as another number of the column in double precision, "
                "which holds 15 digits; subtract a constant from the column, or name the columns to read with --series"
            )


def _check_missing(file: _File, frame: pd.DataFrame) -> None:
    """Check that no cell of the rows of the file is missing."""
    rows, columns = np.nonzero(frame.isna().to_numpy())
    if len(rows):
        where, written = file.place(int(rows[0]), str(frame.columns[columns[0]]))
        refuse_missing(frame, f"the first is in {file.path}, {where}, which is {written}; ")


def _check_mark(file: _File, kept: pd.DataFrame) -> None:
    """Check that the decimal mark of the dialect does not separate thousands.

    In "1,234" it can do both. One number anywhere in the file that can only be a decimal, such as "1,5" or "0,125",
    shows that the mark is a decimal mark.

    Args:
        file: The file.
        kept: The series.

    Raises:
        DataError: If every number with the mark can be read in both ways.
    """
    mark = file.dialect.decimal
    if file.sheet is not None and mark == ".":
        return  # a spreadsheet stores numbers, and here Python wrote them
    others = file.table.drop(columns=kept.columns).select_dtypes("number")
    if any(_has_decimals(values) for frame in (kept, others) for _, values in frame.items()):
        return
    thousands = re.compile(rf"[+-]?[1-9]\d{{0,2}}{re.escape(mark)}\d{{3}}")
    suspect = None
    written = file.texts(list(kept.select_dtypes("float").columns))
    for name in written.columns:
        texts = written[name].str.strip()
        marked = texts[texts.str.contains(mark, regex=False) & texts.map(lambda cell: is_number(cell, mark))]
        if not marked.str.fullmatch(thousands).all():
            return
        # Where a comma separates the columns, the point is the decimal mark if every number has three decimals. But
        # thousands have no mark below 1,000.
        is_plain = (file.dialect.separator, mark) == (",", ".") and len(marked) == kept[name].notna().sum()
        if len(marked) and not is_plain and suspect is None:
            suspect = marked
    if suspect is not None:
        cell, line = suspect.iloc[0], file.line(int(suspect.index[0]))
        raise DataError(
            f"{file.path}, line {line}, column {str(suspect.name)!r}: {cell!r} is ambiguous: "
            f"{mark!r} can separate thousands or decimals, because three digits follow it in every number of the file; "
            f"write {cell.replace(mark, '')} without thousands separators, or {cell}0 if {mark!r} is the decimal mark"
        )


def _has_decimals(values: pd.Series) -> bool:
    """Return whether a column has a fraction that no thousands separator could make: not from 1.001 to 999.999."""
    size = values.abs()
    parts = size[np.isfinite(size) & (size % 1 != 0)]
    thousands = parts.between(1, 1000) & ((parts * 1000 - (parts * 1000).round()).abs() < 1e-6)
    return not bool(thousands.all())


def _remedy(cell: str, decimal: str) -> str:
    """Return, as a phrase, what the user can do to make a cell a number."""
    plain = cell.strip()
    if plain in _MARKS:
        return "if it is a missing value, fill it with --fill linear or --fill forward"
    if _THOUSANDS.fullmatch(plain):
        return f"write it without thousands separators and with the decimal mark {decimal!r}"
    if plain.endswith("%"):
        return "write it without the per cent sign"
    return "correct it, or leave it empty and give --fill linear"


def _check_order(file: _File, found: Dates) -> None:
    """Check that the dates ascend.

    Raises:
        DataError: If they do not. The message names the first line at fault.
    """
    dates = found.index
    wrong = np.flatnonzero(np.asarray(dates[1:] <= dates[:-1]))
    if not len(wrong):
        return
    row = int(wrong[0]) + 1
    how = "the same date as" if dates[row] == dates[row - 1] else "an earlier date than"
    raise DataError(
        f"{file.path}: the dates in {found.columns[0]!r} do not ascend: line {file.line(row)} ({dates[row]}) has {how} "
        f"line {file.line(row - 1)} ({dates[row - 1]}); sort the rows and drop repeated dates"
        f"{_clock_hint(dates[row])}"
    )


def _clock_hint(date: pd.Timestamp) -> str:
    """Return a hint for a fault in the night to a Sunday of spring or autumn, when clocks change in most places."""
    if (
        date.tz is not None
        or date.day_of_week != 6
        or date.hour not in range(1, 5)
        or date.month not in (3, 4, 9, 10, 11)
    ):
        return ""
    return "; if the clock changed to or from summer time there, write the dates in UTC or with their offset to UTC"


def _even(file: _File, found: Dates, frame: pd.DataFrame, fill: str | None) -> tuple[Step | None, int, pd.DataFrame]:
    """Return the step, the number of rows that were added, and the frame with them.

    Raises:
        DataError: If rows are missing and `fill` is None, if more rows are missing than the file contains, or if a row
            lies between two steps.
    """
    dates = found.index
    step = find_step(dates)
    if step is None:
        _refuse_uneven(file, dates)
        return None, 0, frame
    positions = step.positions(dates).astype(int)
    jumps = np.diff(positions) - 1
    missing = int(jumps.sum())
    if not missing:
        return step, 0, frame
    first, largest = int(np.flatnonzero(jumps)[0]), int(jumps.argmax())
    # Filling would invent most of the data, and perhaps only one date is wrong, for example its year.
    if missing > len(dates):
        raise DataError(
            f"{file.path}: the largest of its gaps is from {dates[largest]} to {dates[largest + 1]} (line "
            f"{file.line(largest + 1)}): with a step of {step}, {missing:,} rows are missing and only {len(dates):,} "
            "are there; correct the date, or give data with fewer gaps"
        )
    if fill is None:
        gaps = int((jumps > 0).sum())
        where = "there" if gaps == 1 else f"in {gaps} gaps, first there"
        raise DataError(
            f"{file.path}: line {file.line(first + 1)} ({dates[first + 1]}) does not follow {dates[first]} by {step}: "
            f"{_rows(missing)} missing {where}; add them with --fill linear (between the neighbours) or --fill forward "
            f"(the last known value){_clock_hint(dates[first + 1])}"
        )
    whole = step.grid(dates)
    return step, missing, frame.set_axis(whole[positions]).reindex(whole)


def _refuse_uneven(file: _File, dates: pd.DatetimeIndex) -> None:
    """Raise an error that names the first row that is not on the grid of the most probable step."""
    for step in usual_steps(dates)[:1]:
        row = int(np.flatnonzero(np.isnan(step.positions(dates)))[0])
        raise DataError(
            f"{file.path}: most rows are {step} apart, but line {file.line(row)} ({dates[row]}) is not a whole number "
            f"of steps after the first ({dates[0]}); correct the date, or resample the series to even steps"
        )


def _step_told(step: Step | None, added: int, dates: pd.Index) -> str:
    if step is None:
        return f"{_rows(len(dates))}, no step"
    gaps = f"{_rows(added)} missing, added" if added else "no gaps"
    return f"{step}, season of {_rows(step.season)}, {gaps}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
