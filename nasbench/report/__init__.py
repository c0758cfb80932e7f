"""WHAT IS SAID: figures, tables and the offline HTML page of a run, comparison, export, suggestion and catalogue."""

from nasbench.report.assembly import build

__all__ = ["build"]
