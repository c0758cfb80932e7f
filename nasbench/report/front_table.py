"""The tables of plans: the compared plans, for a paper and a notebook, and all plans, for the page."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from nasbench.library.plan import BARE
from nasbench.report.formatting import (
    chance_text,
    costs_text,
    figure_text,
    intervals_text,
    is_missing,
    what_would_decide,
)
from nasbench.report.tables import Cell, Column, Row, Table, number_cell, plan_cell, verdict_cell
from nasbench.runs.evaluation import STOPPED
from nasbench.runs.run import Run

__all__ = ["STANDING", "front_table", "plans_table"]

STANDING = "standing"
"""Title of the column that says how far a plan came."""

_TestMetrics = Mapping[str, Mapping[str, float]]


def front_table(run: Run, finalists: pd.DataFrame, test: _TestMetrics) -> Table:
    """Return the table of the compared plans. Every measured value is shown with its interval.

    Args:
        run: The run.
        finalists: Its compared plans (`Run.finalists`).
        test: Metrics on the test split by plan hash.
    """
    caption = f"The bare backbone, every plan with several seeds, and every plan on the front. {_BRACKETS}"
    return _table("The front, and all other compared plans", run, finalists, test, caption)


def plans_table(run: Run, finalists: pd.DataFrame, test: _TestMetrics) -> Table:
    """Return the table of all plans, with one row for each. The compared plans have the cells of `front_table`.

    Args:
        run: The run.
        finalists: Its compared plans (`Run.finalists`).
        test: Metrics on the test split by plan hash.
    """
    firsts = run.trials().drop_duplicates("plan_hash")
    others = firsts[~firsts["plan_hash"].isin(finalists["plan_hash"])].assign(on_front=False)
    others["seeds"] = (others["state"] == "complete").astype(int)
    # A plan that was stopped early has a metric of a shorter training, which would be ranked among those of whole ones.
    stopped = others["state"] != "complete"
    others.loc[stopped, [name for name in run.directions if name in others]] = float("nan")
    compared = finalists.assign(state="complete", reason="")
    rows = [*compared.to_dict(orient="records"), *others.to_dict(orient="records")]
    names = list(dict.fromkeys([*compared, *others]))
    caption = f"One row for each plan. {_BRACKETS}"
    return _table("All plans", run, pd.DataFrame(rows, columns=names), test, caption, whole=True)


def _table(
    title: str, run: Run, plans: pd.DataFrame, test: _TestMetrics, caption: str, *, whole: bool = False
) -> Table:
    metric = run.metric or next(iter(run.directions))
    columns, cells = [], []
    for column, of_rows in _columns(run, metric, plans, test, whole=whole):
        columns.append(column)
        cells.append(of_rows)
    sign = 1 if run.directions[metric] == "minimize" else -1
    # Plans without a value come last, and the best of the others first.
    order = (sign * plans[metric].astype(float)).argsort(kind="stable") if metric in plans else range(len(plans))
    rows = plans.to_dict(orient="records")
    return Table(
        title,
        tuple(columns),
        tuple(
            Row(tuple(of_rows[i] for of_rows in cells), rows[i]["plan"] == BARE.text, int(rows[i]["number"]))
            for i in order
        ),
        _caption(run, plans, caption),
        STANDING if whole else "",
    )


def _columns(
    run: Run, metric: str, plans: pd.DataFrame, test: _TestMetrics, *, whole: bool
) -> Iterable[tuple[Column, list[Cell]]]:
    """Yield each column with its cells, in the order of `plans`. The metric and the verdict come first."""
    rows = plans.to_dict(orient="records")

    def numbers(title: str, values: list[Any]) -> tuple[Column, list[Cell]]:
        return Column(title, True), [number_cell(*cell) for cell in zip(costs_text(values), values, strict=True)]

    def intervals(title: str, name: str, low: str, high: str, sign: str = "") -> tuple[Column, list[Cell]]:
        texts = intervals_text(((row.get(name), row.get(low), row.get(high)) for row in rows), sign)
        return Column(title, True), [number_cell(text, row.get(name)) for text, row in zip(texts, rows, strict=True)]

    yield intervals(f"{metric} [95 %]", metric, f"{metric}_low", f"{metric}_high")
    if "difference" in plans:
        yield Column("verdict"), [verdict_cell(_verdict(row)) for row in rows]
    yield Column("plan"), [plan_cell(row["plan"]) for row in rows]
    if "difference" in plans:
        yield intervals("difference from bare [95 %]", "difference", "difference_low", "difference_high", "+")
    if whole:
        yield Column(STANDING), [Cell(_standing(row)) for row in rows]
    if "p_better" in plans and plans["p_better"].notna().any():
        yield Column("P(better)", True), [_probability(row["p_better"]) for row in rows]
    yield Column("trial", True), [number_cell(str(row["number"]), row["number"]) for row in rows]
    yield Column("seeds", True), [number_cell(str(row["seeds"]), row["seeds"]) for row in rows]
    costs = [name for name in ("params", "macs") if name in plans and plans[name].notna().any()]
    shown = [name for name in run.directions if name not in (*costs, metric, "latency_ms")]
    for name in [*shown, *costs]:
        yield numbers(name, [row.get(name) for row in rows])
    if "latency_ms" in plans and plans["latency_ms"].notna().any():
        yield from _latency(rows, intervals)
    if "probability" in plans and plans["probability"].notna().any():
        yield (
            Column("P(front)", True),
            [number_cell(_of_front(row["probability"]), row["probability"]) for row in rows],
        )
    if test:
        yield numbers(f"test {metric}", [test.get(row["plan_hash"], {}).get(metric) for row in rows])
    if "verdict" in plans:
        yield Column("needed for a verdict"), [Cell(what_would_decide(row)) for row in rows]
    if any(_known(row.get("breaks")) for row in rows):
        yield Column("breaks"), [Cell(_known(row.get("breaks"))) for row in rows]
    if whole and any(_known(row["reason"]) for row in rows):
        yield Column("reason"), [Cell(_known(row["reason"])) for row in rows]


def _latency(rows: list[dict[Hashable, Any]], intervals: Any) -> Iterable[tuple[Column, list[Cell]]]:
    if all(is_missing(row.get("latency_low_ms")) for row in rows):  # predicted
        yield (
            Column("predicted ms", True),
            [number_cell(figure_text(row["latency_ms"]), row["latency_ms"]) for row in rows],
        )
        return
    yield intervals("latency in ms [99 %]", "latency_ms", "latency_low_ms", "latency_high_ms")
    yield intervals("latency / bare [99 %]", "latency_ratio", "latency_ratio_low", "latency_ratio_high")
    verdicts = [row.get("latency_verdict") for row in rows]
    yield Column("latency verdict"), [verdict_cell(_known(text)) for text in verdicts]


def _verdict(row: Mapping[Hashable, Any]) -> str:
    """Return the verdict on a plan. A plan without one shows why, because a phone shows only the first columns."""
    verdict = _known(row.get("verdict"))
    if verdict == "NOT DECIDED" and row["seeds"] < 2:  # as the headline counts: one seed gives no verdict
        return _ONE_SEED
    return verdict or _standing(row)


def _standing(row: Mapping[Hashable, Any]) -> str:
    """Return how far a plan came."""
    if row["state"] == "complete":
        of_front = "on the front" if row["on_front"] else "infeasible" if _known(row.get("breaks")) else ""
        if row["plan"] == BARE.text:
            return ", ".join(filter(None, ("bare", of_front)))
        return of_front or ("compared" if row["seeds"] > 1 else _ONE_SEED)
    return "stopped early" if str(row["reason"]).startswith(STOPPED) else str(row["state"])


_ONE_SEED = "one seed"


_BRACKETS = "Brackets are intervals."


def _caption(run: Run, plans: pd.DataFrame, caption: str) -> str:
    if run.metric and run.directions[run.metric] == "minimize":
        caption += " A difference is positive if the plan is better than the bare backbone."
    if "verdict" in plans and (plans["seeds"] == 1).any():
        caption += " A plan with one seed has no verdict."
    if "p_better" in plans and plans["p_better"].notna().any():
        caption += " P(better) is the probability that the plan is better than the bare backbone."
    caption += "".join(_disagreements(plans))
    if "probability" in plans and plans["probability"].notna().any():
        caption += (
            " P(front) is the probability that no other plan dominates the plan. It is computed from the noise of "
            "validation items, seeds and measured latency. Latencies within about 1 % of each other count as equal."
        )
    return caption


def _disagreements(plans: pd.DataFrame) -> Iterable[str]:
    """Yield why a verdict can differ from the interval beside it, if one does."""
    if "difference" not in plans:
        return
    several = plans[plans["seeds"] > 1]
    spans_0 = (several["difference_low"] <= 0) & (several["difference_high"] >= 0)
    decided = several["verdict"].isin(["BETTER", "WORSE"])
    if numbers := several.loc[decided & spans_0, "number"].tolist():
        yield (
            f" {_trials(numbers)} has a verdict although the interval contains 0. The verdict uses all trainings "
            "together, and the interval only those of this plan and the bare backbone. In that case, believe the "
            "verdict."
        )
    is_open = (several["verdict"] == "NOT DECIDED") & several["difference_low"].notna()
    if numbers := several.loc[is_open & ~spans_0, "number"].tolist():
        yield (
            f" {_trials(numbers)} has no verdict although the interval is on one side of 0, because the plan was "
            "chosen among many, or is one of several that are compared."
        )


def _trials(numbers: list[int]) -> str:
    """Return the subject of a sentence in the singular: "Trial 4", or "Each of the trials 4, 7 and 9"."""
    *others, last = map(str, numbers)
    return f"Each of the trials {', '.join(others)} and {last}" if others else f"Trial {last}"


def _known(text: Any) -> str:
    return "" if is_missing(text) else str(text)


def _probability(value: Any) -> Cell:
    return number_cell(chance_text(value), value)


def _of_front(value: Any) -> str:
    # A plan that nothing can dominate, such as the cheapest, is on the front for sure.
    return f"{value:.2f}" if value in (0, 1) else chance_text(value, 2)
