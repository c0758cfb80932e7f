"""The first table of a report: the plans on the front and all other compared plans."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from nasbench.library.plan import BARE
from nasbench.report.formatting import figure_text, is_missing, what_would_decide, with_interval
from nasbench.report.tables import Cell, Column, Row, Table, plan_cell, verdict_cell
from nasbench.runs.run import Run

__all__ = ["front_table"]


def front_table(run: Run, finalists: pd.DataFrame, test: Mapping[str, Mapping[str, float]]) -> Table:
    """Return the table. Every measured value is shown with its interval.

    Args:
        run: The run.
        finalists: Its compared plans (`Run.finalists`).
        test: Metrics on the test split by plan hash.
    """
    metric = run.metric or next(iter(run.directions))
    columns, cells = [], []
    for column, of_rows in _columns(run, metric, finalists, test):
        columns.append(column)
        cells.append(of_rows)
    bare = finalists["plan"] == BARE.text
    best_first = finalists[metric].argsort(kind="stable")
    order = best_first if run.directions[metric] == "minimize" else best_first[::-1]
    rows = tuple(Row(tuple(of_rows[index] for of_rows in cells), bare=bool(bare.iloc[index])) for index in order)
    return Table("The front, and all other compared plans", tuple(columns), rows, _caption(run, finalists))


def _columns(
    run: Run, metric: str, finalists: pd.DataFrame, test: Mapping[str, Mapping[str, float]]
) -> Iterable[tuple[Column, list[Cell]]]:
    """Yield each column with its cells, in the order of `finalists`."""
    rows = finalists.to_dict(orient="records")

    def numbers(title: str, name: str) -> tuple[Column, list[Cell]]:
        return Column(title, True), [Cell(figure_text(row[name]), True) for row in rows]

    def intervals(title: str, name: str, low: str, high: str, sign: str = "") -> tuple[Column, list[Cell]]:
        return Column(title, True), [
            Cell(with_interval(row[name], row.get(low), row.get(high), sign), True) for row in rows
        ]

    yield Column("trial", True), [Cell(str(row["number"]), True) for row in rows]
    yield Column("plan"), [plan_cell(row["plan"]) for row in rows]
    yield Column("seeds", True), [Cell(str(row["seeds"]), True) for row in rows]
    yield intervals(f"{metric} [95 %]", metric, f"{metric}_low", f"{metric}_high")
    if "difference" in finalists:
        yield intervals("difference from bare [95 %]", "difference", "difference_low", "difference_high", "+")
        yield Column("verdict"), [verdict_cell(row["verdict"]) for row in rows]
        if finalists["p_better"].notna().any():
            yield Column("P(better)", True), [_probability(row["p_better"]) for row in rows]
            yield Column("needed for a verdict"), [Cell(what_would_decide(row)) for row in rows]
    costs = [name for name in ("params", "macs") if name in finalists and finalists[name].notna().any()]
    shown = [name for name in run.directions if name not in (*costs, metric, "latency_ms")]
    for name in [*shown, *costs]:
        yield numbers(name, name)
    if "latency_ms" in finalists and finalists["latency_ms"].notna().any():
        yield from _latency(rows, intervals)
    if finalists["probability"].notna().any():
        yield Column("P(front)", True), [Cell(_two_digits(row["probability"]), True) for row in rows]
    if test:
        figures = [test.get(row["plan_hash"], {}).get(metric) for row in rows]
        yield Column(f"test {metric}", True), [Cell(figure_text(figure), True) for figure in figures]


def _latency(rows: list[dict[Hashable, Any]], intervals: Any) -> Iterable[tuple[Column, list[Cell]]]:
    if all(is_missing(row.get("latency_low_ms")) for row in rows):  # predicted
        yield Column("predicted ms", True), [Cell(figure_text(row["latency_ms"]), True) for row in rows]
        return
    yield intervals("latency in ms [99 %]", "latency_ms", "latency_low_ms", "latency_high_ms")
    yield intervals("latency / bare [99 %]", "latency_ratio", "latency_ratio_low", "latency_ratio_high")
    verdicts = [row.get("latency_verdict") for row in rows]
    yield Column("latency verdict"), [verdict_cell("" if is_missing(text) else str(text)) for text in verdicts]


def _caption(run: Run, finalists: pd.DataFrame) -> str:
    caption = "The bare backbone, every plan with several seeds, and every plan on the front. Brackets are intervals."
    if run.metric and run.directions[run.metric] == "minimize":
        caption += " A difference is positive if the plan is better than the bare backbone."
    if "p_better" in finalists and finalists["p_better"].notna().any():
        caption += " P(better) is the probability that the plan is better than the bare backbone."
    if finalists["probability"].notna().any():
        caption += (
            " P(front) is the probability that no other plan dominates the plan. It is computed from the noise of "
            "validation items, seeds and measured latency. Latencies within about 1 % of each other count as equal."
        )
    return caption


def _probability(value: Any) -> Cell:
    return Cell("" if is_missing(value) else f"{value:.3f}", True)


def _two_digits(value: Any) -> str:
    return "" if is_missing(value) else f"{value:.2f}"
