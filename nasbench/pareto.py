"""Which plans are not dominated, how much they dominate, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "front_probability",
    "hypervolume",
    "metric_interval",
    "minimised",
    "non_dominated",
    "paired_difference",
    "pooled_seed_deviation",
]

FloatArray = NDArray[np.float64]


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


def front_probability(
    items: Sequence[Sequence[FloatArray]],
    fixed: FloatArray,
    directions: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> FloatArray:
    """Return each plan's probability of being on the front, by bootstrap over evaluation items and seeds.

    The trained metric of a plan is the mean over items of the mean over its seeds. Each resample draws the items anew,
    the same for every plan (they saw the same items), and adds seed noise with the variance pooled over all plans that
    have several seeds: three seeds of one plan alone would be overconfident.

    Args:
        items: For each plan, for each of its seeds, the metric per evaluation item, `(n_items,)`.
        fixed: The costs, exactly known, `(n_plans, m - 1)`.
        directions: Of the trained metric first, then of the costs.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.

    Returns:
        `(n_plans,)`, each in [0, 1].
    """
    rng = np.random.default_rng(seed)
    means = np.stack([np.mean(np.stack(list(of_plan)), axis=0) for of_plan in items])
    spread = pooled_seed_deviation(items)
    noise = np.array([spread / np.sqrt(len(of_plan)) for of_plan in items])
    hits = np.zeros(len(items))
    for _ in range(resamples):
        drawn = rng.integers(0, means.shape[1], means.shape[1])
        metric = means[:, drawn].mean(axis=1) + rng.normal(size=len(items)) * noise
        hits += non_dominated(np.column_stack([metric, fixed]), directions)
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
    items: Sequence[FloatArray], spread: float, *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of one plan's metric, over evaluation items and seeds.

    Args:
        items: Metric per item for each seed.
        spread: The pooled deviation between seeds.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.
    """
    return _bootstrap(np.mean(np.stack(list(items)), axis=0), spread / np.sqrt(len(items)), resamples, seed)


def paired_difference(
    plan: Sequence[FloatArray], bare: Sequence[FloatArray], spread: float, *, resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Return the plan's metric minus the bare backbone's, with a 95 % interval.

    Items are resampled in pairs; the seed noise of a difference of two means over K shared seeds has variance
    2·spread²/K.

    Args:
        plan: Metric per item for each seed.
        bare: The same of the bare backbone, on the same items.
        spread: The pooled deviation between seeds.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.
    """
    gap = np.mean(np.stack(list(plan)), axis=0) - np.mean(np.stack(list(bare)), axis=0)
    low, high = _bootstrap(gap, spread * np.sqrt(1 / len(plan) + 1 / len(bare)), resamples, seed)
    return {"difference": float(gap.mean()), "low": low, "high": high}


def _bootstrap(items: FloatArray, noise: float, resamples: int, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean over items, with normal noise of the seeds added."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(items), (resamples, len(items)))
    draws = items[drawn].mean(axis=1) + rng.normal(size=resamples) * noise
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
