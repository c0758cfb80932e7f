"""How probably a plan is on the front, where its metric and its latency are known with noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.intervals import draw_items, mean_over_seeds, pooled_seed_deviation
from nasbench.evidence.pareto import non_dominated, tied

__all__ = ["front_probability", "log_deviation"]

FloatArray = NDArray[np.float64]

_NORMAL_95 = 1.959964
"""Half the width of a 95 % interval, in standard deviations of a normal."""


def log_deviation(low: FloatArray, high: FloatArray) -> FloatArray:
    """Return the standard deviation of the logarithm of a measured ratio from its 95 % interval; 0 where there is none.

    Args:
        low: Lower ends, `(n,)`; NaN where nothing was measured.
        high: Upper ends, `(n,)`.
    """
    width = np.log(np.asarray(high, dtype=float)) - np.log(np.asarray(low, dtype=float))
    return np.nan_to_num(width / (2 * _NORMAL_95), nan=0.0)


def front_probability(
    items: Sequence[Sequence[FloatArray]],
    costs: FloatArray,
    directions: Sequence[str],
    *,
    cost_deviation: FloatArray | None = None,
    resolution: Sequence[float] | None = None,
    block: int = 1,
    resamples: int = 2000,
    seed: int = 0,
) -> FloatArray:
    """Return each plan's probability of being on the front, by bootstrap over evaluation items, seeds and latency.

    The trained metric of a plan is the mean over items of the mean over its seeds. Each resample draws the items anew,
    the same for every plan (they saw the same items), and adds seed noise with the variance pooled over all plans that
    have several seeds: three seeds of one plan alone would be overconfident. A measured cost is multiplied by
    `exp(deviation · z)` with a z of each plan's own: the ratio to the bare backbone was measured plan by plan.

    Args:
        items: For each plan, for each of its seeds, the metric per evaluation item, `(n_items,)`.
        costs: The costs, `(n_plans, m - 1)`.
        directions: Of the trained metric first, then of the costs.
        cost_deviation: Standard deviation of the logarithm of each cost, `(n_plans, m - 1)`, 0 where it is exactly
            known; all are if None. See `log_deviation`.
        resolution: For each cost the largest relative difference that is a tie (`tied`); 0 for all if None.
        block: Items in a row that are drawn together: the horizon of a forecast, whose windows overlap.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.

    Returns:
        `(n_plans,)`, each in [0, 1].
    """
    rng = np.random.default_rng(seed)
    means = np.stack([mean_over_seeds(of_plan) for of_plan in items])
    spread = pooled_seed_deviation(items)
    noise = np.array([spread / np.sqrt(len(of_plan)) for of_plan in items])
    of_costs = np.random.default_rng([seed, 1])  # its own, so that exact costs leave the other draws as they were
    hits = np.zeros(len(items))
    for _ in range(resamples):
        metric = means[:, draw_items(rng, means.shape[1], block)].mean(axis=1) + rng.normal(size=len(items)) * noise
        seen = costs if cost_deviation is None else costs * np.exp(cost_deviation * of_costs.normal(size=costs.shape))
        if resolution is not None and any(resolution):
            seen = np.column_stack([tied(column, one) for column, one in zip(seen.T, resolution, strict=True)])
        hits += non_dominated(np.column_stack([metric, seen]), directions)
    return hits / resamples
