"""Tables of the report: effects of modules and properties, finalists and their controls, agreement of proxies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from nasbench.evidence.proxy_agreement import BASELINES
from nasbench.report.control_table import control_table
from nasbench.report.formatting import is_missing, with_interval
from nasbench.report.proxy_table import proxy_table
from nasbench.report.run_effects import run_effects
from nasbench.report.tables import Cell, Column, Row, Table, plan_cell, verdict_cell
from nasbench.runs.control_comparison import NEAR_COST
from nasbench.runs.run import Run

__all__ = ["proxies", "tables"]

_MAX_ROWS = 16


def tables(run: Run) -> Iterable[Table]:
    """Yield the table of finalists and controls, then the tables of effects of properties and modules."""
    if run.metric is None:
        return
    controls = control_table(run)
    if len(controls):
        interval = [
            with_interval(row.difference, row.difference_low, row.difference_high, "+") for row in controls.itertuples()
        ]
        verdict = controls["verdict"].where(controls["verdict"] != "", "none: the costs differ")
        shown = controls[["number", "plan", "control", "ratio", "metric", "control_metric"]].assign(
            **{"difference from the control [95 % interval]": interval}, verdict=verdict
        )
        shown = shown.rename(
            columns={"number": "trial", "metric": run.metric, "control_metric": f"{run.metric} of the control"}
        )
        low, high = NEAR_COST
        caption = (
            "Does the module itself help, or only the added size? A plan is compared with a plain residual 3x3 "
            "bottleneck in the same slots. Its width is chosen so that its added MACs come as close as possible to "
            f"those of the plan (the column ratio). Outside {low} to {high} there is no verdict, because the "
            "difference may then come from the size alone."
        )
        yield _table("Plans against a plain block of equal cost", shown, caption)
    effects = run_effects(run)
    against = {"properties": "a module without it (`any`: an empty slot)", "modules": "an empty slot"}
    for kind, title in (("properties", "Effect of each property"), ("modules", "Effect of each module")):
        shown = _rows_to_show(effects[kind]) if kind in effects else pd.DataFrame()
        if shown.empty:
            continue
        caption = (
            f"The change in {run.metric} compared with {against[kind]}, over all plans trained with the full budget. "
            "Each 95 % interval is for its row alone. The verdicts HELPS and HURTS are corrected for all rows of all "
            "tables of effects (Holm), so most rows of a short search stay NOT DECIDED. The column n is the number of "
            f"plans with this module or property in this slot. At most the first {_MAX_ROWS} rows are shown."
        )
        yield _table(title, _with_intervals(shown), caption)


def proxies(run: Run) -> Iterable[Table]:
    """Yield a table of how proxies, params and MACs correlate with the metric after training.

    If the run computed no proxy, yield nothing.
    """
    agreement = proxy_table(run)
    if set(agreement["predictor"]) - set(BASELINES):
        caption = (
            "Spearman correlation with the metric after training, over the plans of this search. Parameters and MACs "
            "are the baselines that a proxy must beat. `retest` is the correlation of the proxy with itself under "
            "other initial weights and batches."
        )
        yield _table("Proxies against parameters and MACs", agreement, caption)


def _with_intervals(effects: pd.DataFrame) -> pd.DataFrame:
    """Return effects in which one column has the estimate and its interval."""
    told = [with_interval(row.estimate, row.low, row.high, "+") for row in effects.itertuples()]
    shown = effects.drop(columns=["low", "high"]).rename(columns={"estimate": _ESTIMATE})
    return shown.assign(**{_ESTIMATE: told})


_ESTIMATE = "estimate [95 %]"


def _rows_to_show(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the first `_MAX_ROWS` rows with an estimate: decided rows first, and larger estimates before smaller."""
    known = effects.dropna(subset=["estimate"]).drop(columns="adjusted", errors="ignore")
    # Two stable sorts: the second keeps the order by size within decided and undecided rows.
    order = known["estimate"].abs().sort_values(ascending=False, kind="stable").index
    by_size = known.loc[order]
    return by_size.sort_values("verdict", key=lambda verdicts: verdicts.eq("NOT DECIDED"), kind="stable").head(
        _MAX_ROWS
    )


def _table(title: str, frame: pd.DataFrame, caption: str) -> Table:
    numeric = {name for name in frame if pd.api.types.is_numeric_dtype(frame[name]) or "[95 %" in str(name)}
    columns = [Column(str(name), name in numeric) for name in frame]
    rows = [Row(tuple(_cells(row, columns))) for row in frame.itertuples(index=False)]
    return Table(title, tuple(columns), tuple(rows), caption)


def _cells(row: Sequence[Any], columns: Sequence[Column]) -> Iterable[Cell]:
    for value, column in zip(row, columns, strict=True):
        form = ".3f" if column.title == "p" else ".4g"
        text = "" if is_missing(value) else f"{value:{form}}" if isinstance(value, float) else str(value)
        if column.title == "verdict":
            yield verdict_cell(text)
        elif column.title in ("plan", "control"):
            yield plan_cell(text)
        elif column.numeric:
            yield Cell(text, True)
        else:
            yield Cell(text, code=column.title == "module")
