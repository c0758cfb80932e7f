"""Which plans are not dominated, how much they dominate, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "front_probability",
    "hypervolume",
    "log_deviation",
    "metric_interval",
    "minimised",
    "non_dominated",
    "paired_difference",
    "pooled_seed_deviation",
    "tied",
]

FloatArray = NDArray[np.float64]

_NORMAL_95 = 1.959964
"""Half the width of a 95 % interval, in standard deviations of a normal."""


def minimised(values: FloatArray, directions: Sequence[str]) -> FloatArray:
    """Flip the sign of maximised columns, so that smaller is better everywhere.

    Args:
        values: One row a plan, one column an objective, `(n, m)`.
        directions: "maximize" or "minimize" for each column.
    """
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    return np.asarray(values, dtype=float).reshape(-1, len(signs)) * signs


def non_dominated(values: FloatArray, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Return which rows no other row dominates; equal rows are all kept, a row with a NaN never is.

    Args:
        values: `(n, m)`.
        directions: "maximize" or "minimize" for each column.
    """
    points = minimised(values, directions)
    kept = np.asarray(~np.isnan(points).any(axis=1))
    if kept.any():
        kept[kept] = moocore.is_nondominated(points[kept], keep_weakly=True)
    return kept


def hypervolume(values: FloatArray, directions: Sequence[str], reference: Sequence[float]) -> float:
    """Return the volume dominated up to a reference point (in the objectives' own signs); 0 for no point.

    Args:
        values: `(n, m)`.
        directions: "maximize" or "minimize" for each column.
        reference: The reference point, fixed before the search.
    """
    points = minimised(values, directions)
    points = points[~np.isnan(points).any(axis=1)]
    if not len(points):
        return 0.0
    return float(moocore.hypervolume(points, ref=minimised(np.asarray(reference), directions)[0]))


def tied(values: FloatArray, resolution: float) -> FloatArray:
    """Return costs in which those that cannot be told apart are one: each that of its rank's smallest.

    From the smallest up, a cost that exceeds the first of its rank by no more than the resolution shares that rank. So
    a front is not made of differences that no measurement shows, and no chain of ties joins costs far apart.

    Args:
        values: Positive costs, `(n,)`.
        resolution: Largest relative difference that is a tie; 0 leaves all as they are.
    """
    shared = np.array(values, dtype=float)
    first = np.nan
    for index in np.argsort(shared, kind="stable"):
        if not shared[index] <= first * (1 + resolution):
            first = shared[index]
        shared[index] = first
    return shared


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
    means = np.stack([np.mean(np.stack(list(of_plan)), axis=0) for of_plan in items])
    spread = pooled_seed_deviation(items)
    noise = np.array([spread / np.sqrt(len(of_plan)) for of_plan in items])
    of_costs = np.random.default_rng([seed, 1])  # its own, so that exact costs leave the other draws as they were
    hits = np.zeros(len(items))
    for _ in range(resamples):
        metric = means[:, _drawn(rng, means.shape[1], block)].mean(axis=1) + rng.normal(size=len(items)) * noise
        seen = costs if cost_deviation is None else costs * np.exp(cost_deviation * of_costs.normal(size=costs.shape))
        if resolution is not None and any(resolution):
            seen = np.column_stack([tied(column, one) for column, one in zip(seen.T, resolution, strict=True)])
        hits += non_dominated(np.column_stack([metric, seen]), directions)
    return hits / resamples


def pooled_seed_deviation(items: Sequence[Sequence[FloatArray]]) -> float:
    """Return the standard deviation of the metric between seeds, pooled over plans with several; NaN-free 0 for none.

    Args:
        items: As in `front_probability`.
    """
    squares, degrees = 0.0, 0
    for of_plan in items:
        scores = np.array([float(np.mean(one)) for one in of_plan])
        if len(scores) > 1:
            squares += float(((scores - scores.mean()) ** 2).sum())
            degrees += len(scores) - 1
    return float(np.sqrt(squares / degrees)) if degrees else 0.0


def metric_interval(
    items: Sequence[FloatArray], spread: float, *, block: int = 1, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of one plan's metric, over evaluation items and seeds.

    Args:
        items: Metric per item for each seed.
        spread: The pooled deviation between seeds.
        block: As in `front_probability`.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.
    """
    return _bootstrap(np.mean(np.stack(list(items)), axis=0), spread / np.sqrt(len(items)), block, resamples, seed)


def paired_difference(
    plan: Sequence[FloatArray],
    bare: Sequence[FloatArray],
    spread: float,
    *,
    block: int = 1,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """Return the plan's metric minus the bare backbone's, with a 95 % interval.

    Items are resampled in pairs; the seed noise of a difference of two means over K shared seeds has variance
    2·spread²/K.

    Args:
        plan: Metric per item for each seed.
        bare: The same of the bare backbone, on the same items.
        spread: The pooled deviation between seeds.
        block: As in `front_probability`.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.
    """
    gap = np.mean(np.stack(list(plan)), axis=0) - np.mean(np.stack(list(bare)), axis=0)
    low, high = _bootstrap(gap, spread * np.sqrt(1 / len(plan) + 1 / len(bare)), block, resamples, seed)
    return {"difference": float(gap.mean()), "low": low, "high": high}


def _bootstrap(items: FloatArray, noise: float, block: int, resamples: int, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean over items, with normal noise of the seeds added."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([_drawn(rng, len(items), block) for _ in range(resamples)])
    draws = items[drawn].mean(axis=1) + rng.normal(size=resamples) * noise
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _drawn(rng: np.random.Generator, count: int, block: int) -> NDArray[np.int64]:
    """Draw `count` items with replacement, in blocks of neighbours (the end joins the start).

    A block is at most a quarter of the items: of fewer than four blocks no spread can be told.
    """
    block = max(1, min(block, count // 4))
    starts = rng.integers(0, count, -(-count // block))
    return ((starts[:, None] + np.arange(block)) % count).ravel()[:count]
