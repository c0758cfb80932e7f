"""Probability that a plan is on the front, given the noise of its metric and its latency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.intervals import draw_items, mean_over_seeds, pooled_seed_deviation
from nasbench.evidence.pareto import non_dominated, tied

__all__ = ["front_probability", "log_deviation"]

FloatArray = NDArray[np.float64]

_NORMAL_95 = 1.959964
"""Half the width of a 95 % interval of a normal distribution, in standard deviations."""


def log_deviation(low: FloatArray, high: FloatArray) -> FloatArray:
    """Return the standard deviation of the logarithm of a measured ratio, from its 95 % interval.

    Args:
        low: Lower ends, `(n,)`. NaN where nothing was measured.
        high: Upper ends, `(n,)`.

    Returns:
        `(n,)`, 0 where there is no interval.
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
    """Return the probability of each plan to be on the front, by bootstrap over evaluation items, seeds and latency.

    The trained metric of a plan is the mean over items of the mean over its seeds. All plans saw the same items, so
    each resample draws one set of items for all of them. Seed noise is added with the variance pooled over all plans
    that have several seeds, because a variance from three seeds of one plan would be overconfident. A measured cost is
    multiplied by `exp(deviation · z)`. Each plan has its own z, because its ratio to the bare backbone was measured by
    itself.

    Args:
        items: The metric per evaluation item, `(n_items,)`, for each plan and each of its seeds.
        costs: The costs, `(n_plans, m - 1)`.
        directions: Direction of the trained metric, then of each cost.
        cost_deviation: Standard deviation of the logarithm of each cost, `(n_plans, m - 1)`, 0 for an exact cost. If
            None, all costs are exact. See `log_deviation`.
        resolution: Largest relative difference that is a tie (`tied`), for each cost. If None, 0 for all.
        block: Number of consecutive items drawn together. For a forecast it is the horizon, because windows overlap.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        `(n_plans,)`, each in [0, 1].
    """
    rng = np.random.default_rng(seed)
    means = np.stack([mean_over_seeds(of_plan) for of_plan in items])
    spread = pooled_seed_deviation(items)
    noise = np.array([spread / np.sqrt(len(of_plan)) for of_plan in items])  # standard error of a mean over seeds
    # A generator of its own: whether costs have noise must not change the draws of items and seeds.
    of_costs = np.random.default_rng([seed, 1])
    hits = np.zeros(len(items))
    for _ in range(resamples):
        metric = means[:, draw_items(rng, means.shape[1], block)].mean(axis=1) + rng.normal(size=len(items)) * noise
        seen = costs if cost_deviation is None else costs * np.exp(cost_deviation * of_costs.normal(size=costs.shape))
        # Ties are found after the noise, on what a measurement of this resample would have shown.
        if resolution is not None and any(resolution):
            seen = np.column_stack([tied(column, one) for column, one in zip(seen.T, resolution, strict=True)])
        hits += non_dominated(np.column_stack([metric, seen]), directions)
    return hits / resamples
