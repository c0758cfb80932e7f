"""What a notebook shows of a run: a short summary of the run itself, and the page of its report."""

from __future__ import annotations

import dataclasses
import html
import sys

from nasbench.report.assembly import content_text, page_without_pictures, templates
from nasbench.runs.run import Run

if sys.platform == "win32":
    from pathlib import WindowsPath as _Path
else:
    from pathlib import PosixPath as _Path

__all__ = ["ReportPath", "summary_html"]

_MOST_ROWS = 10
"""Number of compared plans that the summary shows."""


class ReportPath(_Path):
    """The path of report.html. A notebook shows the page."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        if self.suffix != ".html" or not self.is_file():  # a path made from this one, such as its parent
            return None
        page = html.escape(self.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" title="report" style="width: 100%; height: 800px; border: 0"></iframe>'


def summary_html(run: Run) -> str:
    """Return the first sentence of the report's answer and the table of the compared plans, as HTML.

    It reads the run and writes nothing. If no trial is finished, it says so.
    """
    if not run.evaluations():
        return f"<p>{html.escape(run.folder.name)}: no finished trial</p>"
    page = page_without_pictures(run)
    shown = dataclasses.replace(page.front, rows=page.front.rows[:_MOST_ROWS])
    return (
        templates()
        .get_template("summary.html.j2")
        .render(
            page=page,
            table=shown,
            more=len(page.front.rows) - len(shown.rows),
            style=content_text("plan.css"),
        )
    )
