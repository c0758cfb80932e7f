"""Read labelled series from files in the `.ts` format of the UEA and UCR archives.

A file has lines of comments (`#`), then a header of lines `@key value`, then `@data`, and then one item a line: the
series, separated by colons, and at the end the class. The values of a series are separated by commas, and `?` is a
missing value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nasbench.errors import DataError, nearest
from nasbench.text import clean

__all__ = ["LabelledSeries", "read_ts"]

_MISSING = "?"
_SHOWN = 40  # characters of a value in a message

_FLAGS = {"timestamps": "timeStamps", "missing": "missing", "univariate": "univariate", "equallength": "equalLength"}
_COUNTS = {"dimensions": "dimensions", "dimension": "dimensions", "serieslength": "seriesLength"}
"""Keys of the header in lower case, as files spell them in several ways, with their usual spelling."""

_UNREAD = ("problemname", "targetlabel")
"""Further keys of the header."""

_KEYS = tuple(dict.fromkeys((*_FLAGS.values(), *_COUNTS.values(), "classLabel", "targetLabel", "problemName", "data")))

_MOST_DIGITS = 12  # of a count; Python refuses to read a number of many thousands of digits


@dataclass(frozen=True)
class LabelledSeries:
    """The items of one file.

    Attributes:
        path: The file.
        values: For each item its series, `(L, D)`. L can differ between items, D cannot. Missing values are NaN.
        labels: The class of each item.
        lines: The line of each item in the file, from 1.
        classes: The classes that the header lists, in its order.
        missing: Number of missing values.
    """

    path: Path
    values: list[np.ndarray]
    labels: list[str]
    lines: list[int]
    classes: tuple[str, ...]

    @property
    def missing(self) -> int:
        """The number of missing values."""
        return sum(int(np.isnan(item).sum()) for item in self.values)


@dataclass
class _Header:
    """The header of a file, each entry with its line. `given` has what was written for each key."""

    path: Path
    given: dict[str, tuple[str, int]] = field(default_factory=dict)
    flags: dict[str, tuple[bool, int]] = field(default_factory=dict)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    class_line: int = 0

    def fault(self, line: int, what: str, way: str) -> DataError:
        return DataError(f"{self.path}:{line}: {what}; {way}")


def read_ts(path: Path) -> LabelledSeries:
    """Read a file and check that its header tells the truth about its items.

    Raises:
        DataError: If it is not such a file, or if the header and an item contradict each other. The message has the
            file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not a text in UTF-8 (byte {error.start}); give a .ts file of the UEA or UCR archive"
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    if "\0" in text:
        raise DataError(f"{path} is not a text; give a .ts file of the UEA or UCR archive")
    lines = enumerate(text.splitlines(), start=1)
    header = _read_header(path, lines)
    items = [(number, line.strip()) for number, line in lines if line.strip() and not line.startswith(("#", "%"))]
    if not items:
        raise DataError(f"{path} has no items after @data; give a file with one item a line")
    values, labels = zip(*(_read_item(header, number, line) for number, line in items), strict=True)
    series = LabelledSeries(path, list(values), list(labels), [number for number, _ in items], header.classes)
    _check_header(header, series)
    return series


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> _Header:
    header = _Header(path)
    for number, line in lines:
        text = line.strip()
        if not text or text.startswith(("#", "%")):
            continue
        typed, *words = text.split()
        key = typed[1:].lower()
        if not text.startswith("@"):
            raise header.fault(
                number,
                f"{clean(text[:_SHOWN])!r} comes before a line @data and is neither a comment (#) nor a header (@)",
                "give a .ts file of the UEA or UCR archive",
            )
        if key == "data":
            if words:
                raise header.fault(
                    number, f"{clean(' '.join(words)[:_SHOWN])!r} follows @data", "begin the items in the next line"
                )
            _check_usable(header, number)
            return header
        _read_entry(header, number, key, words)
    raise DataError(f"{path} has no line @data, after which the items begin; give a .ts file of the UEA or UCR archive")


def _read_entry(header: _Header, number: int, key: str, words: Sequence[str]) -> None:
    first = words[0].lower() if words else ""
    if key not in (*_FLAGS, *_COUNTS, "classlabel", *_UNREAD):
        near = nearest(key, [name.lower() for name in _KEYS])
        meant = " or ".join(f"@{name}" for name in _KEYS if name.lower() in near)
        way = f"did you mean {meant}?" if meant else f"keys are {', '.join(f'@{name}' for name in _KEYS)}"
        raise header.fault(number, f"@{clean(key[:_SHOWN])} is no key of the header", way)
    spelled = _COUNTS.get(key, key)
    value, line = header.given.setdefault(spelled, (" ".join(words).lower(), number))
    if value != " ".join(words).lower():
        raise header.fault(number, f"@{spelled} has another value in line {line}", "leave out one of the two lines")
    if key in _FLAGS or key in ("classlabel", "targetlabel"):
        if first not in ("true", "false"):
            raise header.fault(
                number, f"@{_FLAGS.get(key, key)} is {clean(' '.join(words)[:_SHOWN])!r}", "write true or false"
            )
        if key == "classlabel" and first == "true":
            header.classes, header.class_line = tuple(words[1:]), number
        elif key == "targetlabel" and first == "true":
            raise header.fault(number, "the items have a number each, no class", "only classification is supported")
        elif key in _FLAGS:
            header.flags[key] = (first == "true", number)
    elif key in _COUNTS:
        if len(words) != 1 or not first.isdecimal() or len(first) > _MOST_DIGITS or int(first) < 1:
            raise header.fault(
                number, f"@{_COUNTS[key]} is {clean(' '.join(words)[:_SHOWN])!r}", "write a whole number from 1"
            )
        header.counts[_COUNTS[key]] = (int(first), number)


def _check_usable(header: _Header, number: int) -> None:
    if header.flags.get("timestamps", (False, 0))[0]:
        raise header.fault(
            header.flags["timestamps"][1],
            "the values have time stamps, which are not supported",
            "write values at even steps, with @timeStamps false",
        )
    if not header.classes:
        line = header.class_line or number
        raise header.fault(line, "the header lists no classes", "write @classLabel true, and then every class")
    repeated = sorted({name for name in header.classes if header.classes.count(name) > 1})
    if repeated:
        raise header.fault(header.class_line, f"class {repeated[0]} is listed twice", "list every class once")


def _read_item(header: _Header, number: int, line: str) -> tuple[np.ndarray, str]:
    *parts, label = (part.strip() for part in line.split(":"))
    if not parts:
        raise header.fault(
            number,
            f"{clean(line[:_SHOWN])!r} has no colon",
            "an item is its series and its class, separated by colons",
        )
    if label not in header.classes:
        raise header.fault(
            number,
            f"class {clean(label[:_SHOWN])!r} is not one of @classLabel in line {header.class_line} "
            f"({', '.join(header.classes[:10])}{', ...' if len(header.classes) > 10 else ''})",
            "correct the class or the header",
        )
    expected, where = header.counts.get("dimensions", (len(parts), 0))
    if header.flags.get("univariate", (False, 0))[0] and "dimensions" not in header.counts:
        expected, where = 1, header.flags["univariate"][1]
    if len(parts) != expected:
        raise header.fault(
            number,
            f"{len(parts)} series, but line {where} of the header says {expected}",
            "correct the item or the header",
        )
    series = [_read_values(header, number, k, part) for k, part in enumerate(parts, start=1)]
    lengths = [len(each) for each in series]
    if len(set(lengths)) > 1:
        other = next(k for k, length in enumerate(lengths, start=1) if length != lengths[0])
        raise header.fault(
            number,
            f"series 1 has {lengths[0]} steps, but series {other} has {lengths[other - 1]}",
            "give all series of an item at the same steps, with ? where a value is missing",
        )
    return np.stack(series, axis=1), label


def _read_values(header: _Header, number: int, dimension: int, text: str) -> np.ndarray:
    cells = [cell.strip() for cell in text.split(",")]
    values = _parsed(cells)
    if values is not None and np.isfinite(values).all():
        return values
    values = np.empty(len(cells))
    for step, cell in enumerate(cells):
        try:
            values[step] = np.nan if cell == _MISSING else float(cell.replace("_", "x"))
        except ValueError:
            values[step] = np.inf
        if cell != _MISSING and not np.isfinite(values[step]):
            way = "write a missing value as ?" if cell.lower().lstrip("+-") in ("nan", "na", "") else "correct it"
            raise header.fault(
                number,
                f"value {step + 1} of series {dimension} is {clean(cell[:_SHOWN])!r}, not a finite number",
                way,
            )
    return values


def _parsed(cells: Sequence[str]) -> np.ndarray | None:
    """Return the numbers of cells, all at once. None if one is no number."""
    if any("_" in cell for cell in cells):  # Python reads 1_000 as a number
        return None
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        return None


def _check_header(header: _Header, series: LabelledSeries) -> None:
    """Raise an error for the first item that contradicts the header."""
    first = series.values[0].shape
    says_missing, missing_line = header.flags.get("missing", (True, 0))
    says_equal, equal_line = header.flags.get("equallength", (False, 0))
    says_length, length_line = header.counts.get("seriesLength", (0, 0))
    is_univariate, univariate_line = header.flags.get("univariate", (first[1] == 1, 0))
    way = "correct the item or the header"
    if is_univariate and first[1] > 1:
        raise header.fault(
            series.lines[0], f"{first[1]} series, but @univariate is true in line {univariate_line}", way
        )
    for number, values in zip(series.lines, series.values, strict=True):
        if values.shape[1] != first[1]:
            raise header.fault(
                number, f"{values.shape[1]} series, but the first item has {first[1]} (line {series.lines[0]})", way
            )
        if not says_missing and np.isnan(values).any():
            raise header.fault(number, f"there is a ?, but @missing is false in line {missing_line}", way)
        if says_length and not _fits(len(values), says_length, says_equal, equal_line):
            raise header.fault(
                number, f"{len(values)} steps, but @seriesLength is {says_length} in line {length_line}", way
            )
        if says_equal and len(values) != first[0]:
            raise header.fault(
                number,
                f"{len(values)} steps, but the first item has {first[0]}, and @equalLength is true in line "
                f"{equal_line}",
                way,
            )
    if first[1] == 1 and not is_univariate:
        raise header.fault(
            univariate_line, "@univariate is false, but every item has a single series", "correct the header"
        )


def _fits(steps: int, length: int, says_equal: bool, equal_line: int) -> bool:
    """Return whether a length agrees with @seriesLength, which is the longest if lengths are said to differ."""
    return steps <= length if equal_line and not says_equal else steps == length
