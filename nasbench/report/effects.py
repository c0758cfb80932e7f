"""Which modules and properties paid, and how far zero-cost proxies told: tables of the report."""

from __future__ import annotations

from collections.abc import Iterable

from nasbench.report.tables import Table
from nasbench.runs import Run

__all__ = ["proxies", "tables"]


def tables(run: Run) -> Iterable[Table]:
    """Yield the effect of each module and property by slot."""
    return ()


def proxies(run: Run) -> Iterable[Table]:
    """Yield the correlation of each proxy, and of params and MACs, with the trained metric."""
    return ()
