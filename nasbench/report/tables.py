"""Tables of a report as data; the HTML template only lays them out."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cell", "Column", "Row", "Table"]


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
