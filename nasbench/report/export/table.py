"""The trials table as CSV, JSON, Markdown or LaTeX (booktabs)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nasbench.errors import UnknownNameError
from nasbench.report.formatting import is_missing
from nasbench.runs.run import Run
from nasbench.runs.schema import SCHEMA_VERSION
from nasbench.text import csv_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMATS", "check_format", "table_text", "trials_text"]

FORMATS = ("csv", "json", "md", "latex")


def check_format(form: str) -> None:
    """Check the name of a format.

    Raises:
        UnknownNameError: If there is no such format.
    """
    if form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS)


def trials_text(run: Run, form: str) -> str:
    """Return the trials table of a run as text.

    Raises:
        UnknownNameError: If there is no such format.
    """
    return table_text(run.trials(), form)


def table_text(table: pd.DataFrame, form: str, numeric: Sequence[bool] | None = None) -> str:
    """Return a table as text in one of `FORMATS`. A missing value is empty, or null in JSON.

    Args:
        table: The table.
        form: One of `FORMATS`.
        numeric: Whether each column is aligned to the right. By default the columns with numbers are.
    """
    check_format(form)
    if numeric is None:
        import pandas as pd  # imported here, because checking a format does not need it

        numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in table.columns]
    if form == "csv":
        return csv_text(table)
    if form == "json":
        # By default, pandas would round to 10 digits after the point.
        rows = json.loads(table.to_json(orient="records", double_precision=15))
        return json.dumps({"schema_version": SCHEMA_VERSION, "kind": "trials", "data": rows}, indent=2) + "\n"
    if form == "latex":
        texts = table.map(_text).map(_latex)
        texts.columns = [_latex(str(name)) for name in texts.columns]
        return texts.to_latex(index=False, escape=False, column_format="".join("r" if n else "l" for n in numeric))
    names = [str(name) for name in table.columns]
    # In Markdown, a bar would end the cell.
    rows = [[_text(value).replace("|", "\\|") for value in row] for row in table.itertuples(index=False)]
    rule = ["--:" if right else "---" for right in numeric]
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, rule, *rows]) + "\n"


def _text(value: Any) -> str:
    if is_missing(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ">": r"\textgreater{}", "<": r"\textless{}",
    '"': r"\textquotedbl{}",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
