"""Tables of a report as data; the HTML template only lays them out, and each is a file for a paper too."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nasbench.files import write_text
from nasbench.report.export.table import table_text
from nasbench.text import human

__all__ = ["Cell", "Column", "Row", "Table", "figure_text", "save_tables", "with_interval"]

_ENDINGS = {"csv": "csv", "md": "md", "latex": "tex"}


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `verdict` is a style class, "" for none."""

    text: str
    numeric: bool = False
    code: bool = False
    verdict: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table; `bare` marks the bare backbone's."""

    cells: tuple[Cell, ...]
    bare: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""


def save_tables(tables: Iterable[Table], folder: Path) -> None:
    """Write each table as CSV, Markdown and LaTeX (booktabs), named by its title, in place of those of before."""
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        if file.suffix.removeprefix(".") in _ENDINGS.values():
            file.unlink()
    for table in tables:
        texts = [[cell.text for cell in row.cells] for row in table.rows]
        frame = pd.DataFrame(texts, columns=[column.title for column in table.columns], dtype=object)
        name = "-".join(re.findall(r"[a-z0-9]+", table.title.lower()))
        for form, ending in _ENDINGS.items():
            numeric = [column.numeric for column in table.columns]
            write_text(folder / f"{name}.{ending}", table_text(frame, form, numeric))


def with_interval(value: Any, low: Any, high: Any, sign: str = "") -> str:
    """Return a figure with its interval: "0.41 [0.39, 0.43]"; `sign` "+" for a difference, "" for a missing figure."""
    if _missing(value):
        return ""
    value = 0.0 if abs(value) < 1e-12 else value  # a difference of equal means, but for rounding
    if _missing(low) or low == high:
        return f"{value:{sign}.3g}" if sign else f"{value:.4g}"
    return f"{value:{sign}.3g} [{low:{sign}.2g}, {high:{sign}.2g}]" if sign else f"{value:.4g} [{low:.3g}, {high:.3g}]"


def figure_text(value: Any) -> str:
    """Return a figure to four digits, a large one with a unit prefix; "" for a missing one."""
    if _missing(value):
        return ""
    return human(value) if isinstance(value, (int, float)) and abs(value) >= 1000 else f"{value:.4g}"


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
