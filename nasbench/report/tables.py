"""Tables of a report as data, also saved as files for a paper. The HTML template only arranges them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nasbench.files import write_text
from nasbench.library.plan import BARE
from nasbench.report.export.table import table_text
from nasbench.report.formatting import plan_name

__all__ = ["Cell", "Column", "Row", "Table", "plan_cell", "save_tables", "verdict_cell"]

_ENDINGS = {"csv": "csv", "md": "md", "latex": "tex"}


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table. `verdict` is its style class, or "" if it has none."""

    text: str
    numeric: bool = False
    code: bool = False
    verdict: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table. `bare` marks the row of the bare backbone."""

    cells: tuple[Cell, ...]
    bare: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""


def plan_cell(text: str) -> Cell:
    """Return the cell of a plan: its text as code, or the name of the bare backbone."""
    return Cell(plan_name(text), code=text != BARE.text)


def verdict_cell(text: str) -> Cell:
    """Return the cell of a verdict, styled by its first word."""
    return Cell(text, verdict=text.split()[0] if text else "")


def save_tables(tables: Iterable[Table], folder: Path) -> None:
    """Write each table as CSV, Markdown and LaTeX (booktabs), named after its title. Earlier tables are deleted."""
    folder.mkdir(exist_ok=True)
    # A table that the report no longer has must not leave an old file behind.
    for file in folder.iterdir():
        if file.suffix.removeprefix(".") in _ENDINGS.values():
            file.unlink()
    for table in tables:
        texts = [[cell.text for cell in row.cells] for row in table.rows]
        # The same texts as on the page, so that a paper shows the same digits and intervals.
        frame = pd.DataFrame(texts, columns=[column.title for column in table.columns], dtype=object)
        name = "-".join(re.findall(r"[a-z0-9]+", table.title.lower()))
        for form, ending in _ENDINGS.items():
            numeric = [column.numeric for column in table.columns]
            write_text(folder / f"{name}.{ending}", table_text(frame, form, numeric))
