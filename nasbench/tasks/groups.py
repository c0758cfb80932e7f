"""Groups of items: the trial and the patient from which each series comes, read from a CSV file beside the data."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from nasbench.errors import DataError

__all__ = ["COLUMNS", "Groups", "read_groups"]

COLUMNS = ("trial", "patient")
"""The columns of groups, from the finest level to the coarsest."""

_PATH = "path"
_MOST = 2  # levels


@dataclass(frozen=True)
class Groups:
    """The groups of items.

    Attributes:
        numbers: Numbers of the groups of each item, `(items, levels)`, from the finest level to the coarsest.
        levels: Names of the levels.
    """

    numbers: np.ndarray
    levels: tuple[str, ...]

    def summary(self) -> str:
        """Return the numbers of groups: "12 trials, 3 patients"."""
        counts = [len(np.unique(column)) for column in self.numbers.T]
        return ", ".join(f"{n} {level}{'s' * (n > 1)}" for n, level in zip(counts, self.levels, strict=True))


def read_groups(path: Path, items: int) -> Groups:
    """Read a CSV file with a header and one row for each item, in the order of the items in their files.

    It has a column `patient`, a column `trial`, or both. Or it has a column `path` of the recordings: the folder of a
    recording is its trial, and the folder above is its patient; with one folder, that is the patient. Trials of
    different patients are different, even if they have one name.

    Args:
        path: The file.
        items: Number of items in the data.

    Raises:
        DataError: If it cannot be read, has other columns, or another number of rows.
    """
    try:
        with path.expanduser().open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the groups in {path}: {error}") from None
    if len(rows) != items:
        raise DataError(
            f"{path} has {len(rows)} rows, and the data has {items} items; give a row for each item, in the order of "
            "the training file and then of the test file"
        )
    names = list(rows[0]) if rows else []
    levels = [name for name in COLUMNS if name in names]
    if levels:
        found = [[row[name] for name in levels] for row in rows]
    elif _PATH in names:
        folders = [PurePosixPath((row[_PATH] or "").replace("\\", "/")).parts[:-1][-_MOST:][::-1] for row in rows]
        depth = min(len(parts) for parts in folders)
        found, levels = [list(parts[:depth]) for parts in folders], list(COLUMNS[_MOST - depth :])
        if not depth:
            raise DataError(f"{path}: a path has no folder, so it names no patient; write patient/trial/recording")
    else:
        raise DataError(
            f"{path} has the columns {', '.join(map(str, names))}; name the groups of an item {' and '.join(COLUMNS)}, "
            f"or give its {_PATH}"
        )
    for number, values in enumerate(found, start=2):
        if not all(values):
            raise DataError(f"{path}:{number}: {levels[values.index(next(v for v in values if not v))]} is empty")
    # A group is named by its own level and all coarser ones.
    columns = [[tuple(row[level:]) for row in found] for level in range(len(levels))]
    numbers = [_numbered(column) for column in columns]
    return Groups(np.stack(numbers, axis=1), tuple(levels))


def _numbered(names: list[tuple[str, ...]]) -> np.ndarray:
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([known[name] for name in names], dtype=np.int64)
