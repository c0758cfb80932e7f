"""Comparison of plans with their equal-cost controls: does the module itself help, or only the added size?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from nasbench.runs.control_comparison import ControlComparison, compare_with_controls
from nasbench.runs.run import Run
from nasbench.runs.trainings import PlanTrainings, trainings_of

__all__ = ["control_table"]

COLUMNS = (
    *("number", "plan", "control", "ratio", "slot_ratios", "exact", "plan_params", "control_params", "seeds"),
    *("metric", "control_metric", "difference", "difference_low", "difference_high", "verdict"),
)


def control_table(run: Run) -> pd.DataFrame:
    """Return one row for each plan whose control was trained.

    Returns:
        A table with these columns:

        - number, plan: the plan.
        - control: the plan of its control.
        - ratio: MACs that the control adds divided by MACs that the plan adds.
        - slot_ratios: the same ratio for each slot (None if the plan adds no MACs in it).
        - exact: whether the MACs of the plan are exact.
        - plan_params, control_params: parameters added.
        - seeds: number of seeds of the plan or the control, whichever is smaller.
        - metric, control_metric: the metric of the plan and that of the control, each as a mean over its seeds.
        - difference: metric of the plan minus metric of the control. Positive is better, also for an error.
        - difference_low, difference_high: 95 % interval over paired validation items and seeds, with the noise pooled
          over the run and its controls. NaN if the plan or the control has one seed.
        - verdict: BETTER or WORSE than a plain block of equal cost, or NOT DECIDED. "" if the ratio is far from 1
          (`nasbench.runs.control_comparison.NEAR_COST`).
    """
    if run.metric is None:
        return pd.DataFrame(columns=list(COLUMNS))
    compared = compare_with_controls(trainings_of(run), run.journal.controls)
    rows = [_row(run.metric, each) for each in compared.values()]
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("number", ignore_index=True)


def _row(metric: str, compared: ControlComparison) -> dict[str, object]:
    record, pair = compared.record, compared.pair
    return {
        "number": compared.plan.evaluations[0].number,
        "plan": compared.plan.evaluations[0].plan,
        "control": record.plan,
        "ratio": record.ratio,
        "slot_ratios": record.slots,
        "exact": record.exact,
        "plan_params": record.plan_params,
        "control_params": record.control_params,
        "seeds": pair.seeds,
        "metric": _mean(compared.plan, metric),
        "control_metric": _mean(compared.control, metric),
        "difference": pair.difference,
        "difference_low": pair.low,
        "difference_high": pair.high,
        "verdict": compared.verdict,
    }


def _mean(plan: PlanTrainings, metric: str) -> float:
    return float(np.mean([evaluation.metrics[metric] for evaluation in plan.evaluations]))
