"""Comparison of the plans of a run with each other and with the bare backbone, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.front_probability import front_probability, log_deviation
from nasbench.evidence.noise import Noise, pooled_noise
from nasbench.evidence.pairs import PairedDifference, mean_interval
from nasbench.evidence.pareto import LATENCY_RESOLUTION, on_front
from nasbench.evidence.race import Until
from nasbench.evidence.standing import Standing
from nasbench.evidence.trainings import Trainings
from nasbench.evidence.verdicts import judge_plans
from nasbench.library.plan import BARE, Plan

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare", "contents_of", "keeps_bounds"]


def contents_of(plan: Plan) -> list[tuple[str, str]]:
    """Return the (slot, module) pairs of a plan. Hyper-parameters are ignored. An expression gives all its modules.

    Example:
        >>> contents_of(Plan.of({"stage1": "se(reduction=4)", "stage3": "eca >> se"}))
        [('stage1', 'se'), ('stage3', 'eca'), ('stage3', 'se')]
    """
    return [(slot, leaf.name) for slot, expression in plan.items() for leaf in expression.leaves()]


def compare(
    table: pd.DataFrame,
    trainings: Sequence[Trainings],
    directions: Mapping[str, str],
    metric: str | None,
    *,
    noise: Noise | None = None,
    until: Until | None = None,
) -> pd.DataFrame:
    """Add columns to a table of plans: membership of the front, its probability, intervals and verdicts.

    Args:
        table: One row for each plan. The column `plan` has its text (for the bare backbone, the text of `BARE`). Other
            columns have the means of the objectives, and the costs. A plan with a text in the column `breaks`, if there
            is one, breaks a bound. It is not on the front, dominates no plan, and is not called BETTER.
        trainings: For each row, the plan's trainings. They are not used if every objective is a cost.
        directions: The objectives, each with its direction.
        metric: The objective that is measured after training. None if every objective is a cost.
        noise: The noise, pooled over the run and earlier runs. None means `kept_noise` of the rows.
        until: How the search ended, if it ended by its verdicts, as in `judge_plans`.

    Returns:
        A copy of the table with additional columns. `on_front` and `probability` (of being on the front) are
        always added. If every objective is a cost, `probability` is 1 or 0. If there is a metric but its noise is not
        known, it is NaN. If there is a metric, `<metric>_low` and `<metric>_high` are
        added, the ends of the 95 % interval of the metric itself. If the bare backbone is also among the plans,
        `difference`, `difference_low` and `difference_high` are added (positive is better, also for an error), and
        `verdict`, `p_better`, `more_seeds` and `items_needed`, as in `Judgement`.
    """
    table = table.copy()
    feasible = keeps_bounds(table)
    table["on_front"] = False
    table.loc[feasible, "on_front"] = on_front(table.loc[feasible, list(directions)].to_numpy(dtype=float), directions)
    table["probability"] = np.where(table["on_front"], 1.0, 0.0)
    if metric is None:
        return table
    is_bare = (table["plan"] == BARE.text).to_numpy(dtype=bool)
    of_means: list[Noise | None]
    table[f"{metric}_low"] = table[f"{metric}_high"] = np.nan  # these columns come before those of the verdicts
    if is_bare.any():
        judged = _judge(table, trainings, is_bare, noise, until)
        _mark_infeasible(table, ~feasible & ~is_bare)
        noise, of_means = judged.noise, [judged.noise] * len(table)
        for row in np.flatnonzero(~is_bare)[judged.left_out]:
            of_means[row] = None  # its own, as in `judge_plans`
    else:
        noise = pooled_noise(trainings) if noise is None else noise
        of_means = [noise] * len(table)
    ends = np.array([mean_interval(*each) for each in zip(trainings, of_means, strict=True)]).reshape(-1, 2)
    ends = -ends if directions[metric] == "minimize" else ends
    table[f"{metric}_low"], table[f"{metric}_high"] = ends.min(axis=1), ends.max(axis=1)
    allowed = [plan for plan, kept in zip(trainings, feasible, strict=True) if kept]
    table.loc[feasible, "probability"] = _probability(table[feasible], allowed, directions, metric, noise)
    return table


def keeps_bounds(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return for each row whether the plan breaks no bound. A table without the column `breaks` has no such plan."""
    return (table["breaks"] == "").to_numpy(dtype=bool) if "breaks" in table else np.ones(len(table), dtype=bool)


def _judge(
    table: pd.DataFrame,
    trainings: Sequence[Trainings],
    is_bare: NDArray[np.bool_],
    noise: Noise | None,
    until: Until | None,
) -> Standing:
    """Add the columns of the verdicts. Return the differences, and the noise with the item variance of these plans."""
    bare = trainings[int(np.argmax(is_bare))]
    others = np.flatnonzero(~is_bare)
    contents = [contents_of(Plan.of(text)) for text in table["plan"].iloc[others]]
    judged = judge_plans([trainings[int(row)] for row in others], bare, contents, noise=noise, until=until)
    pairs = [PairedDifference.of_itself(bare.seeds)] * len(table)
    verdicts = ["BARE"] * len(table)
    for row, pair, verdict in zip(others, judged.pairs, judged.verdicts, strict=True):
        pairs[row], verdicts[row] = pair, verdict
    table["difference"] = [pair.difference for pair in pairs]
    table["difference_low"] = [pair.low for pair in pairs]
    table["difference_high"] = [pair.high for pair in pairs]
    table["verdict"] = verdicts
    for name in ("p_better", "more_seeds", "items_needed"):
        column = np.full(len(table), np.nan)
        column[others] = getattr(judged, name)
        table[name] = column
    return judged.standing


def _mark_infeasible(table: pd.DataFrame, infeasible: NDArray[np.bool_]) -> None:
    """Take BETTER from plans that break a bound. However much such a plan gains, it is no answer."""
    table.loc[infeasible & (table["verdict"] == "BETTER"), "verdict"] = "NOT DECIDED"
    table.loc[infeasible, ["more_seeds", "items_needed"]] = np.nan


def _probability(
    table: pd.DataFrame,
    trainings: Sequence[Trainings],
    directions: Mapping[str, str],
    metric: str,
    noise: Noise,
) -> NDArray[np.float64]:
    others = [name for name in directions if name != metric]
    costs = table[others].to_numpy(dtype=float)
    # Counted costs are exact. Only a measured latency has noise and a resolution.
    deviation, resolution = np.zeros_like(costs), np.zeros(len(others))
    if "latency_ms" in others and "latency_ratio_low" in table:
        latency = others.index("latency_ms")
        ratio = table[["latency_ratio_low", "latency_ratio_high"]].to_numpy(dtype=float)
        deviation[:, latency], resolution[latency] = log_deviation(*ratio.T), LATENCY_RESOLUTION
    return front_probability(
        table[metric].to_numpy(dtype=float),
        np.array([plan.seeds for plan in trainings], dtype=int),
        noise,
        costs,
        [directions[metric], *(directions[name] for name in others)],
        cost_deviation=deviation,
        resolution=resolution.tolist(),
    )
