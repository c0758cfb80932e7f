"""Tables of a report as data, also saved as files for a paper. The HTML template only arranges them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nasbench.files import write_text
from nasbench.library.plan import BARE, Plan
from nasbench.report.diagram import Place, diagram_of
from nasbench.report.export.table import table_text
from nasbench.report.formatting import is_missing, plan_name

__all__ = ["Cell", "Column", "Row", "Table", "number_cell", "plan_cell", "save_tables", "verdict_cell"]

_ENDINGS = {"csv": "csv", "md": "md", "latex": "tex"}


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says, as the files for a paper have it.
        numeric: Whether it is a number.
        code: Whether it is code.
        verdict: Its style class, or "" if it has none.
        value: The number by which the column is sorted. None to sort it by the text.
        diagram: The plan that the page draws instead of the text. () if there is none.
        typed: The plan as it is typed in a shell, by which the page finds it too. "" if it has no diagram.
    """

    text: str
    numeric: bool = False
    code: bool = False
    verdict: str = ""
    value: float | None = None
    diagram: tuple[Place, ...] = ()
    typed: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: One cell for each column.
        bare: Whether it is the row of the bare backbone.
        trial: The number of its trial, by which the interactive front finds it. None in most tables.
    """

    cells: tuple[Cell, ...]
    bare: bool = False
    trial: int | None = None


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        title: Its heading.
        columns: Its columns.
        rows: Its rows, each with one cell for each column.
        caption: The text below it.
        filter: The title of the column by which the page offers to filter the rows. "" if there is none.
        folded: Whether the page shows it only on demand.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    filter: str = ""
    folded: bool = False

    def texts(self, column: str) -> list[str]:
        """Return the texts of a column, from its title."""
        index = [each.title for each in self.columns].index(column)
        return [row.cells[index].text for row in self.rows]


def plan_cell(text: str) -> Cell:
    """Return the cell of a plan: its text as code and its diagram, or the name of the bare backbone."""
    diagram = diagram_of(text)
    return Cell(plan_name(text), code=text != BARE.text, diagram=diagram, typed=Plan.of(text).typed if diagram else "")


def number_cell(text: str, value: Any) -> Cell:
    """Return the cell of a number, which can be missing."""
    return Cell(text, True, value=None if is_missing(value) else float(value))


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
