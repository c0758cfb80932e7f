"""Plans that were evaluated under the same seeds, held against each other and against the bare backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nasbench.evidence import pareto

__all__ = ["compare", "verdict"]

_LATENCY_RESOLUTION = 0.01
"""Relative difference up to which two latencies are one on the front: to that the measurement is carried out."""


def compare(
    table: pd.DataFrame,
    items: Sequence[Sequence[NDArray[np.float64] | None]],
    directions: Mapping[str, str],
    metric: str | None,
    block: int,
) -> pd.DataFrame:
    """Add what is known of each plan beside the others.

    Args:
        table: One row a plan: its text in `plan` ("{}" for the bare backbone), means of the objectives, costs.
        items: For each plan and seed the metric per evaluation item, None where it was not stored.
        directions: Objectives with their directions.
        metric: The objective that is trained; None where all are costs.
        block: Items in a row that a bootstrap draws together.

    Returns:
        The table with `on_front` and `probability`; where all items are stored, also `<metric>_low` and `<metric>_high`
        (95 %), and, where the bare backbone is among the plans, `difference`, `difference_low`, `difference_high` and
        `verdict`.
    """
    table = table.copy()
    values = table[list(directions)].astype(float)
    if "latency_ms" in values:  # those that cannot be told apart share a rank
        values["latency_ms"] = pareto.tied(values["latency_ms"].to_numpy(), _LATENCY_RESOLUTION)
    table["on_front"] = pareto.non_dominated(values.to_numpy(), list(directions.values()))
    table["probability"] = np.where(table["on_front"], 1.0, 0.0)
    stored = [[one for one in of_plan if one is not None] for of_plan in items]
    if metric is None or [len(of_plan) for of_plan in stored] != [len(of_plan) for of_plan in items]:
        return table
    table["probability"] = _probability(table, stored, directions, metric, block)
    spread = pareto.pooled_seed_deviation(stored)
    intervals = [pareto.metric_interval(of_plan, spread, block=block) for of_plan in stored]
    table[f"{metric}_low"], table[f"{metric}_high"] = zip(*intervals, strict=True)
    for bare in np.flatnonzero(table["plan"] == "{}"):
        rows = [pareto.paired_difference(of_plan, stored[bare], spread, block=block) for of_plan in stored]
        rows[bare] = dict.fromkeys(rows[bare], 0.0)
        seeds = [min(len(of_plan), len(stored[bare])) for of_plan in stored]
        table["difference"] = [row["difference"] for row in rows]
        table["difference_low"] = [row["low"] for row in rows]
        table["difference_high"] = [row["high"] for row in rows]
        table["verdict"] = [verdict(row, directions[metric], n) for row, n in zip(rows, seeds, strict=True)]
        table.loc[bare, "verdict"] = "BARE"
    return table


def verdict(gap: Mapping[str, float], direction: str, seeds: int) -> str:
    """Say whether a difference is decided: BETTER, WORSE or NOT DECIDED.

    One seed decides nothing, for nothing is known of how seeds differ; nor does an unknown interval.

    Args:
        gap: `low` and `high` of its 95 % interval, NaN where they are not known.
        direction: "maximize" or "minimize".
        seeds: Seeds behind it.
    """
    if seeds < 2 or not (gap["low"] > 0 or gap["high"] < 0):
        return "NOT DECIDED"
    return "BETTER" if (gap["low"] > 0) == (direction == "maximize") else "WORSE"


def _probability(
    table: pd.DataFrame,
    items: Sequence[Sequence[NDArray[np.float64]]],
    directions: Mapping[str, str],
    metric: str,
    block: int,
) -> NDArray[np.float64]:
    others = [name for name in directions if name != metric]
    costs = table[others].to_numpy(dtype=float)
    deviation, resolution = np.zeros_like(costs), np.zeros(len(others))
    if "latency_ms" in others and "latency_ratio_low" in table:
        latency = others.index("latency_ms")
        ratio = table[["latency_ratio_low", "latency_ratio_high"]].to_numpy(dtype=float)
        deviation[:, latency], resolution[latency] = pareto.log_deviation(*ratio.T), _LATENCY_RESOLUTION
    return pareto.front_probability(
        items,
        costs,
        [directions[metric], *(directions[name] for name in others)],
        cost_deviation=deviation,
        resolution=resolution.tolist(),
        block=block,
    )
