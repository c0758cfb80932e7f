"""Comparison of each finalist with its equal-cost control: does the module help, or only its size?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nasbench.evidence.pairs import compare_pair
from nasbench.evidence.trainings import Trainings
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
    """Return one row for each finalist whose control was trained.

    Returns:
        A table with these columns:

        - number, plan: the finalist.
        - control: the plan of its control.
        - ratio: MACs that the control adds divided by MACs that the plan adds.
        - slot_ratios: the same slot by slot (None where the plan adds no MACs).
        - exact: whether the MACs of the plan are exact.
        - plan_params, control_params: parameters added.
        - seeds: number of seeds on which both were trained.
        - metric, control_metric: means over these seeds.
        - difference: metric of the finalist minus metric of the control. Positive is better, also for an error.
        - difference_low, difference_high: 95 % interval over paired validation items and seeds. NaN for a single seed,
          or where no items were stored.
        - verdict: BETTER or WORSE than a plain block of its cost, or NOT DECIDED.
    """
    if run.metric is None:
        return pd.DataFrame(columns=list(COLUMNS))
    of_controls = _by_plan(run.journal.evaluations(CONTROLS))
    # Reversed, so that a plan keeps the number of its first trial.
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
    scores = [[e.metrics[metric] for e in evaluations] for evaluations in (plan, other)]
    means = [float(np.mean(of_plan)) for of_plan in scores]
    items = [_items(run, metric, evaluations) for evaluations in (plan, other)]
    pair = compare_pair(
        *(
            Trainings.of(of_plan, of_items, direction=run.directions[metric], block=run.block)
            for of_plan, of_items in zip(scores, items, strict=True)
        )
    )
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
        "difference": pair.difference,
        "difference_low": pair.low,
        "difference_high": pair.high,
        "verdict": pair.verdict,
    }


def _items(run: Run, metric: str, evaluations: Sequence[Evaluation]) -> list[FloatArray | None]:
    """Return the metric per validation item of each seed, None where it was not stored or is of another metric."""
    of_metric = run.config["task"] is not None and run.config["task"]["metric"] == metric
    return [run.folder.load_items(e.plan_hash, e.seed) if of_metric else None for e in evaluations]
