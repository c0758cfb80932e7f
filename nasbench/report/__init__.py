"""The report of a run: figures, tables and one offline HTML page."""

from nasbench.report.assembly import build

__all__ = ["build"]
