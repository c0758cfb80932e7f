"""The probability that a plan is on the front, given the noise of its metric and its latency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.noise import Noise
from nasbench.evidence.pareto import non_dominated, tied

__all__ = ["NORMAL_95", "front_probability", "log_deviation"]

FloatArray = NDArray[np.float64]

NORMAL_95 = 1.959964
"""Half the width of a 95 % interval of a normal distribution, in standard deviations."""


def log_deviation(low: FloatArray, high: FloatArray) -> FloatArray:
    """Return the standard deviation of the logarithm of a measured ratio, from its 95 % interval.

    Args:
        low: Lower ends of the intervals, `(n,)`. NaN if nothing was measured.
        high: Upper ends of the intervals, `(n,)`.

    Returns:
        The standard deviations, `(n,)`. 0 if there is no interval.
    """
    width = np.log(np.asarray(high, dtype=float)) - np.log(np.asarray(low, dtype=float))
    return np.nan_to_num(width / (2 * NORMAL_95), nan=0.0)


def front_probability(
    scores: FloatArray,
    seeds: NDArray[np.int64],
    noise: Noise,
    costs: FloatArray,
    directions: Sequence[str],
    *,
    cost_deviation: FloatArray | None = None,
    resolution: Sequence[float] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> FloatArray:
    """Return the probability that each plan is on the front, given the noise of its metric and of its latency.

    Each draw adds noise to the measured metrics and finds the front. In a draw, one random factor multiplies the seed
    noise of all plans, and another one their item noise. These factors represent the errors of the two variances. So
    the difference of two plans has about the same standard error and t-distribution as in its interval. A measured cost
    is multiplied by `exp(cost_deviation · z)` with a standard normal z. Each plan has its own z, because its ratio to
    the bare backbone was measured separately. The metrics are not shrunk by the hierarchical model, because shrinking
    made the probabilities less accurate.

    Args:
        scores: For each plan, the mean over its seeds of the metric after training, `(n_plans,)`. Its sign is
            unchanged.
        seeds: Number of seeds of each plan, `(n_plans,)`. The pooled s² is also used for plans with one seed.
        noise: The noise, including the variance of the items (`Standing.noise`).
        costs: The costs, `(n_plans, m - 1)`.
        directions: Direction of the metric, followed by the direction of each cost.
        cost_deviation: Standard deviation of the logarithm of each cost, `(n_plans, m - 1)`. It is 0 for an exact cost.
            None means that all costs are exact. See `log_deviation`.
        resolution: For each cost, the largest relative difference that counts as a tie (`tied`). None means 0 for all.
        resamples: Number of draws.
        seed: Seed of the draws.

    Returns:
        The probabilities, `(n_plans,)`, in [0, 1]. All are NaN if the noise is not known (`Noise.freedom` is 0).
    """
    if not noise.freedom:
        return np.full(len(scores), np.nan)
    rng = np.random.default_rng(seed)
    of_items = np.sqrt(noise.item_variance / 2)  # for one plan. `item_variance` is for the difference of two plans
    of_seeds = np.sqrt(noise.seed_variance / np.asarray(seeds, dtype=float))
    # The costs have a separate generator, so that their noise does not change the draws of the metric.
    of_costs = np.random.default_rng([seed, 1])
    hits = np.zeros(len(scores))
    for _ in range(resamples):
        items, between = rng.normal(size=(2, len(scores)))
        metric = scores + items * of_items * _inflation(rng, noise.item_freedom)
        metric = metric + between * of_seeds * _inflation(rng, noise.freedom)
        seen = costs if cost_deviation is None else costs * np.exp(cost_deviation * of_costs.normal(size=costs.shape))
        # Ties are found after the noise was added, because another measurement would have given such noisy values.
        if resolution is not None and any(resolution):
            seen = np.column_stack([tied(column, one) for column, one in zip(seen.T, resolution, strict=True)])
        hits += non_dominated(np.column_stack([metric, seen]), directions)
    return hits / resamples


def _inflation(rng: np.random.Generator, freedom: float) -> float:
    """Draw the factor that turns a normal error into a t-distributed error with these degrees of freedom."""
    return float(np.sqrt(freedom / rng.chisquare(freedom))) if np.isfinite(freedom) else 1.0
