"""Plans that were evaluated under the same seeds, held against each other and against the bare backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.front_probability import front_probability, log_deviation
from nasbench.evidence.intervals import metric_interval, pooled_seed_deviation
from nasbench.evidence.pairs import PairedDifference, compare_pair
from nasbench.evidence.pareto import LATENCY_RESOLUTION, on_front
from nasbench.library.plan import BARE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare"]


def compare(
    table: pd.DataFrame,
    items: Sequence[Sequence[NDArray[np.float64] | None]],
    directions: Mapping[str, str],
    metric: str | None,
    block: int,
) -> pd.DataFrame:
    """Add what is known of each plan beside the others.

    Args:
        table: One row a plan: its text in `plan` (for the bare backbone that of `BARE`), means of objectives, costs.
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
    table["on_front"] = on_front(table[list(directions)].to_numpy(dtype=float), directions)
    table["probability"] = np.where(table["on_front"], 1.0, 0.0)
    stored = [[one for one in of_plan if one is not None] for of_plan in items]
    if metric is None or [len(of_plan) for of_plan in stored] != [len(of_plan) for of_plan in items]:
        return table
    table["probability"] = _probability(table, stored, directions, metric, block)
    spread = pooled_seed_deviation(stored)
    intervals = [metric_interval(of_plan, spread, block=block) for of_plan in stored]
    table[f"{metric}_low"], table[f"{metric}_high"] = zip(*intervals, strict=True)
    for bare in np.flatnonzero(table["plan"] == BARE.text):
        pairs = [
            compare_pair(
                of_plan, stored[bare], direction=directions[metric], block=block, spread=spread, fewest_seeds=1
            )
            for of_plan in stored
        ]
        pairs[bare] = PairedDifference.of_itself(len(stored[bare]))
        table["difference"] = [pair.difference for pair in pairs]
        table["difference_low"] = [pair.low for pair in pairs]
        table["difference_high"] = [pair.high for pair in pairs]
        table["verdict"] = [pair.verdict for pair in pairs]
    return table


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
        deviation[:, latency], resolution[latency] = log_deviation(*ratio.T), LATENCY_RESOLUTION
    return front_probability(
        items,
        costs,
        [directions[metric], *(directions[name] for name in others)],
        cost_deviation=deviation,
        resolution=resolution.tolist(),
        block=block,
    )
