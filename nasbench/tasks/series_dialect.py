"""The dialect of a text table: its encoding, separator, decimal mark and header line.

A dialect is recognised from the first lines of the file. Every pair of separator and decimal mark is tried. The pair
with which the most cells are numbers, dates or empty is chosen.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any

from nasbench.errors import DataError
from nasbench.tasks.series_dates import is_date_like, is_date_name

__all__ = ["EMPTY", "UNREADABLE", "Dialect", "find_dialect", "is_number", "lines_of"]

EMPTY = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "-NaN", "NULL", "null", "None"})
"""Cells that are missing values. pandas knows a few more."""

_BLANK = r"\s+"
"""The separator of columns that are aligned with blanks."""

# On a tie the first pair wins, so a table of whole numbers has a decimal point.
_PAIRS = (
    (",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", "."), ("|", ","), (_BLANK, "."), (_BLANK, ","),
    (",", ","),
)  # fmt: skip
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", _BLANK: "blanks"}

_SAMPLE_BYTES = 262_144
_SAMPLE_ROWS = 200
_MOST_BEFORE = 20
"""Number of lines before a table that are recognised, for a clear error."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

# zipfile raises RuntimeError for a zip with a password or with an unknown compression.
UNREADABLE = (OSError, EOFError, UnicodeError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, RuntimeError)
"""The errors of a file that is damaged or not what its name says."""


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Attributes:
        encoding: Python's name of the encoding.
        separator: Separator of the columns, as pandas takes it.
        decimal: Decimal mark.
        header: Whether the first line contains the names of the columns.
        names: Names of the columns. A column that has no name in the file gets one.
        unnamed: The columns that have no name in the file.
    """

    encoding: str
    separator: str
    decimal: str
    header: bool
    names: tuple[str, ...]
    unnamed: frozenset[str]

    def __str__(self) -> str:
        first = "header line" if self.header else "no header line"
        mark = "comma" if self.decimal == "," else "point"
        return f"{self.encoding}, separator {_NAMES[self.separator]}, decimal {mark}, {first}"


def find_dialect(path: Path, text: str | None = None) -> Dialect:
    """Recognise the dialect of a file.

    Args:
        path: The file.
        text: The text of the file, if it was read already.

    Raises:
        DataError: If the file is empty, is not text, or is not a table.
    """
    try:
        encoding = "utf-8" if text is not None else _encoding(path)
        lines = _sample(path, encoding) if text is None else text.splitlines()[: _SAMPLE_ROWS + 1]
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not lines:
        raise DataError(f"{path} cannot be read as a CSV: it is empty; give a table with a date in every row")
    if any("\0" in line for line in lines):
        raise DataError(f"{path} cannot be read as a CSV: it is not text; save the table as CSV or xlsx")
    _check_start(path, lines)
    separator, decimal = max(_PAIRS, key=lambda pair: _share(lines, *pair))
    rows = _cells(lines, separator)
    header = _has_header(rows, decimal)
    body = rows[1:] or rows
    width = _width(body)
    whole = _whole_header(rows[0], body, width) if header else []
    if len(whole) > len(rows[0]) and not _is_index(rows[0], [row for row in body if len(row) == width], separator):
        at = next(at for at, row in enumerate(rows[1:], start=1) if len(row) == width)
        raise DataError(
            f"{path} cannot be read as a CSV: the header has {_count(width - 1, 'name')}, and the rows have "
            f"{_count(width, 'cell')} (the first is {lines[at]!r}); if a decimal comma or a thousands separator cuts "
            "numbers into two cells, quote the numbers or separate the columns with semicolons; if the first column "
            "is an index, give it a name"
        )
    names, unnamed = _names(whole, width)
    return Dialect(encoding, separator, decimal, header, names, unnamed)


def is_number(cell: str, decimal: str = ".") -> bool:
    """Return whether a cell is a number with this decimal mark. Infinities count as numbers."""
    if decimal not in cell and "." in cell:
        return False  # this dialect has a decimal comma, so a number with a point belongs to another dialect
    if not cell.isascii():
        return False  # Python's float accepts the digits of every script, but pandas does not
    try:
        float(cell.replace(decimal, "."))
    except ValueError:
        return False
    return "_" not in cell  # Python's float accepts 1_000, which no data file uses for a number


@contextmanager
def lines_of(path: Path, encoding: str) -> Iterator[Iterator[tuple[int, str]]]:
    """Open a file and iterate over the lines that are not blank, each after its number. Numbers start at 1."""
    with _opened(path) as file, io.TextIOWrapper(file, encoding=encoding, errors="replace") as text:
        yield ((number, line) for number, line in enumerate(text, start=1) if line.strip())


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading. A compressed file is recognised by its name, as in pandas."""
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if len(names) != 1:
                raise zipfile.BadZipFile(f"the zip contains {_count(len(names), 'file')}; give one that contains one")
            with archive.open(names[0]) as file:
                yield file
        return
    with _OPENERS.get(suffix, open)(path, "rb") as file:
        yield file


def _encoding(path: Path) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _opened(path) as file:
        block = file.read(_SAMPLE_BYTES)
        for mark, name in _BOMS:
            if block.startswith(mark):
                return name
        # Without a byte order mark, UTF-16 shows as a zero in every second byte of plain text.
        if len(block) > 3 and block[1::2].count(0) > 0.4 * len(block[1::2]):
            return "utf-16-le"
        if len(block) > 3 and block[::2].count(0) > 0.4 * len(block[::2]):
            return "utf-16-be"
        try:
            while block:
                decoder.decode(block)
                block = file.read(_SAMPLE_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"  # it can decode every file, because each byte is a character in it
    return "utf-8"


def _sample(path: Path, encoding: str) -> list[str]:
    """Return the first lines that are not blank."""
    with lines_of(path, encoding) as lines:
        return [line.rstrip("\r\n") for _, line in islice(lines, _SAMPLE_ROWS + 1)]


def _cells(lines: list[str], separator: str) -> list[list[str]]:
    if separator == _BLANK:
        return [line.split() for line in lines]
    return list(csv.reader(lines, delimiter=separator))


def _width(rows: list[list[str]]) -> int:
    return Counter(map(len, rows)).most_common(1)[0][0]


def _share(lines: list[str], separator: str, decimal: str) -> float:
    """Return the share of cells that are numbers, dates or empty. 0 if the lines are not a table."""
    try:
        rows = _cells(lines, separator)
    except csv.Error:
        return 0.0
    body = rows[1:] or rows
    width = _width(body)
    even = [row for row in body if len(row) == width]
    # The header can have one cell less than the other rows. R writes no name for the index, and in some files every row
    # but the header ends with a separator.
    if width < 2 or len(even) < 0.9 * len(body) or len(rows[0]) not in (width, width - 1):
        return 0.0
    if len(rows) == 1:
        return 1.0
    return sum(_is_known(cell, decimal) for row in even for cell in row) / (len(even) * width)


def _check_start(path: Path, lines: list[str]) -> None:
    """Check that no lines precede the table, such as comments or Excel's `sep=;`."""
    count = 1 if re.fullmatch(r'"?sep=.?"?', lines[0].strip(), re.IGNORECASE) else 0
    if not count and _best_share(lines) < 0.6:
        starts = range(1, min(_MOST_BEFORE, len(lines) - 3) + 1)
        count = next((start for start in starts if _best_share(lines[start:]) > 0.9), 0)
    if count:
        raise DataError(
            f"{path} cannot be read as a CSV: the table begins only after {_count(count, 'line')} of other text (the "
            f"first is {lines[0]!r}); remove what precedes the table"
        )


def _best_share(lines: list[str]) -> float:
    return max(_share(lines, *pair) for pair in _PAIRS)


def _is_known(cell: str, decimal: str) -> bool:
    return cell.strip() in EMPTY or is_number(cell, decimal) or is_date_like(cell)


def _has_header(rows: list[list[str]], decimal: str) -> bool:
    """Whether the first row is a header: it contains no date, and at least one cell that is not a number."""
    first = [cell for cell in rows[0] if cell.strip()]
    numbers = [is_number(cell, decimal) for cell in first]
    dates = [is_date_like(cell) and not number for cell, number in zip(first, numbers, strict=True)]
    return not any(dates) and not all(numbers)


def _whole_header(header: list[str], body: list[list[str]], width: int) -> list[str]:
    """Return a header with a name for every column. If R wrote no name for the index, the first name is ""."""
    ends_empty = all(not row[-1].strip() for row in body if len(row) == width)
    return ["", *header] if len(header) == width - 1 and not ends_empty else header


def _is_index(header: list[str], rows: list[list[str]], separator: str) -> bool:
    """Return whether the first column is an index that has no name, as R writes it.

    If not, a comma inside a number made the rows longer than the header.
    """
    columns = [list(column) for column in zip(*rows, strict=True)]
    first, second = columns[:2]
    if any(first == [str(start + i) for i in range(len(rows))] for start in (0, 1)):
        return True
    if all(map(is_date_like, first + second)):  # dates and times of day under one name
        return True
    if len(set(first)) < len(first) or any(map(is_number, first)):
        return False
    # The first name belongs to the dates, so they would be the first column of a complete header.
    if is_date_name(header[0]) and any(map(is_date_like, first)) and not any(map(is_date_like, second)):
        return False
    return separator != "," or not any(_is_cut(left, right) for left, right in pairwise(columns[1:]))


def _is_cut(left: Sequence[str], right: Sequence[str]) -> bool:
    """Return whether two columns can be one column of numbers such as 1,5 or 1,070.27 that was cut at its commas."""
    if not all(re.fullmatch(r"[+-]?\d+", cell) for cell in left):
        return False
    return any(all(re.fullmatch(end, cell) for cell in right) for end in (r"\d+", r"\d{3}(\.\d+)?"))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _names(header: list[str], width: int) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the names of all columns, as pandas would make them, and the names that the file does not contain."""
    given = [*header]
    names: list[str] = []
    unnamed = set()
    for index in range(max(width, len(given))):
        name = given[index] if index < len(given) else ""
        if not name.strip():
            name = f"Unnamed: {index}" if header else f"column {index + 1}"
            unnamed.add(name)
        repeated = sum(1 for earlier in given[:index] if earlier == name)
        names.append(f"{name}.{repeated}" if repeated else name)
    return tuple(names), frozenset(unnamed) if header else frozenset()
