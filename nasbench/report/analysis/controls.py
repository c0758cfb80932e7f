"""Each finalist beside its equal-cost control: does the module help, or only its size?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nasbench.evidence import pareto
from nasbench.evidence.comparison import verdict
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.run import Run
from nasbench.runs.schema import CONTROLS, RecordedControl

__all__ = ["control_table"]

FloatArray = NDArray[np.float64]

COLUMNS = (
    *("number", "plan", "control", "ratio", "slot_ratios", "exact", "plan_params", "control_params", "seeds"),
    *("metric", "control_metric", "difference", "difference_low", "difference_high", "verdict"),
)


def control_table(run: Run) -> pd.DataFrame:
    """Return one row a finalist whose control was trained.

    Columns: number and plan of the finalist; control, its plan; ratio, MACs that the control adds over those that the
    plan adds, and slot_ratios slot by slot (None where the plan adds none); exact, whether the plan's MACs are;
    plan_params and control_params, parameters added; seeds that both were trained on; metric and control_metric, their
    means over these; difference, the finalist's less its control's, with difference_low and difference_high (95 %,
    over validation items in pairs and seeds; NaN of a single seed, or where no items were stored); verdict: BETTER or
    WORSE than a plain block of its cost, or NOT DECIDED.
    """
    if run.metric is None:
        return pd.DataFrame(columns=list(COLUMNS))
    of_controls = _by_plan(run.journal.evaluations(CONTROLS))
    numbers = {one.plan_hash: one.number for one in reversed(run.evaluations())}
    of_plans = _by_plan(run.evaluations())
    rows = []
    for plan_hash, control in run.journal.controls.items():
        plan, other = of_plans.get(plan_hash, {}), of_controls.get(control.plan_hash, {})
        seeds = sorted(set(plan) & set(other))
        if seeds:
            both = [[evaluations[seed] for seed in seeds] for evaluations in (plan, other)]
            rows.append({"number": numbers[plan_hash], **_row(run, run.metric, control, *both)})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("number", ignore_index=True)


def _by_plan(evaluations: Sequence[Evaluation]) -> dict[str, dict[int, Evaluation]]:
    found: dict[str, dict[int, Evaluation]] = {}
    for evaluation in evaluations:
        if evaluation.state == "complete":
            found.setdefault(evaluation.plan_hash, {})[evaluation.seed] = evaluation
    return found


def _row(
    run: Run, metric: str, control: RecordedControl, plan: Sequence[Evaluation], other: Sequence[Evaluation]
) -> dict[str, Any]:
    means = [float(np.mean([e.metrics[metric] for e in evaluations])) for evaluations in (plan, other)]
    gap = _gap(run, metric, plan, other) or {"difference": means[0] - means[1], "low": np.nan, "high": np.nan}
    return {
        "plan": plan[0].plan,
        "control": control.plan,
        "ratio": control.ratio,
        "slot_ratios": control.slots,
        "exact": control.exact,
        "plan_params": control.plan_params,
        "control_params": control.control_params,
        "seeds": len(plan),
        "metric": means[0],
        "control_metric": means[1],
        "difference": gap["difference"],
        "difference_low": gap["low"],
        "difference_high": gap["high"],
        "verdict": verdict(gap, run.directions[metric], len(plan)),
    }


def _gap(run: Run, metric: str, plan: Sequence[Evaluation], other: Sequence[Evaluation]) -> dict[str, float] | None:
    """Return the paired difference over items; None where they were not stored, or are not of this metric.

    None of a single seed too: items alone do not say how much another seed would change.
    """
    if len(plan) < 2 or run.config["task"] is None or run.config["task"]["metric"] != metric:
        return None
    items = [[run.folder.load_items(e.plan_hash, e.seed) for e in evaluations] for evaluations in (plan, other)]
    stored = [[one for one in of_plan if one is not None] for of_plan in items]
    if [len(of_plan) for of_plan in stored] != [len(plan), len(other)]:
        return None
    spread = pareto.pooled_seed_deviation(stored)
    return pareto.paired_difference(stored[0], stored[1], spread, block=run.block)
