"""Tables of the latencies that `nasbench profile --run RUN --front` measured: the front, and its best plan by slot."""

from __future__ import annotations

from typing import Any

from nasbench.library.plan import BARE
from nasbench.report.tables import Cell, Column, Row, Table, plan_cell, verdict_cell
from nasbench.runs.run import Run
from nasbench.text import human

__all__ = ["front_table", "slots_table"]


def slots_table(run: Run) -> Table | None:
    """Return latency and MACs slot by slot for the plan measured last. None if no plan was measured."""
    return run.folder.latest_latency("slots", _slots_table)


def front_table(run: Run) -> Table | None:
    """Return the last measurement of the Pareto front, with predictions if they exist. None without a measurement."""
    return run.folder.latest_latency("front", _front_table)


def _slots_table(measured: dict[str, Any]) -> Table:
    columns = (
        *(Column("slot"), Column("expression"), Column("MACs added", True), Column("MACs added / bare", True)),
        *(Column("ms added", True), Column("ms added / bare [99 %]", True), Column("verdict")),
    )
    rows = tuple(_slot_row(row) for row in measured["rows"])
    caption = (
        f"Trial {measured['number']}: each slot alone in the bare backbone, then the whole plan. The times of the "
        f"slots do not always sum to the time of the plan. Measured on {measured['date'][:10]}: "
        f"{measured['scenario_text']}."
    )
    return Table("Latency and MACs, slot by slot", columns, rows, caption)


def _front_table(measured: dict[str, Any]) -> Table:
    predicted = any("predicted_ms" in row for row in measured["rows"])
    columns = [Column("trial", True), Column("plan"), Column("rank", True), Column("latency in ms [99 %]", True)]
    columns += [Column("latency / bare [99 %]", True), Column("verdict")]
    columns += [Column("predicted ms", True), Column("predicted ratio", True)] * predicted
    rows = []
    for row in measured["rows"]:
        cells = [
            Cell("" if row["number"] is None else str(row["number"]), True),
            plan_cell(row["plan"]),
            Cell(str(row["rank"]), True),
            Cell(f"{row['latency_ms']:.4g} [{row['low_ms']:.4g}, {row['high_ms']:.4g}]", True),
            Cell(f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]", True),
            verdict_cell(row["verdict"]),
        ]
        if predicted:
            cells += [Cell(f"{row[name]:.4g}" if name in row else "", True) for name in _PREDICTED]
        rows.append(Row(tuple(cells), bare=row["plan"] == BARE.text))
    caption = f"Measured on {measured['date'][:10]}, side by side: {measured['scenario_text']}."
    if measured["quality"] is not None:
        quality = measured["quality"]
        caption += (
            f" {100 * quality['within_10pct']:.0f} % of the predicted ratios are within ±10 % of the measured ratios,"
        )
        caption += f" and {100 * measured['within_10pct_ms']:.0f} % of the predicted milliseconds."
    return Table("The front, measured on a device", tuple(columns), tuple(rows), caption)


_PREDICTED = ("predicted_ms", "predicted_ratio")


def _slot_row(row: dict[str, Any]) -> Row:
    low, high = 100 * row["added_share_low"], 100 * row["added_share_high"]
    return Row(
        (
            Cell(row["slot"]),
            Cell(row["expression"], code=True),
            Cell(human(row["added_macs"]), True),
            Cell(f"{100 * row['added_macs_share']:+.2f} %", True),
            Cell(f"{row['added_ms']:+.4g}", True),
            Cell(f"{100 * row['added_share']:+.1f} % [{low:+.1f}, {high:+.1f}]", True),
            verdict_cell(row["verdict"]),
        )
    )
