"""95 % intervals of a mean over evaluation items and seeds: a bootstrap over the items, normal noise for the seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_interval", "draw_items", "mean_over_seeds", "metric_interval", "pooled_seed_deviation"]

FloatArray = NDArray[np.float64]


def mean_over_seeds(items: Sequence[FloatArray]) -> FloatArray:
    """Return the mean over seeds for each evaluation item, `(n_items,)`.

    Args:
        items: For each seed the metric per evaluation item, `(n_items,)`.
    """
    return np.asarray(np.mean(np.stack(list(items)), axis=0))


def pooled_seed_deviation(items: Sequence[Sequence[FloatArray]]) -> float:
    """Return the standard deviation of the metric between seeds, pooled over plans with several; NaN-free 0 for none.

    Args:
        items: For each plan, for each of its seeds, the metric per evaluation item, `(n_items,)`.
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
        block: Items in a row that are drawn together: the horizon of a forecast, whose windows overlap.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.
    """
    noise = spread / np.sqrt(len(items))
    return bootstrap_interval(mean_over_seeds(items), noise, block=block, resamples=resamples, seed=seed)


def bootstrap_interval(
    items: FloatArray, noise: float, *, block: int = 1, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the mean over items, with normal noise of the seeds added.

    Args:
        items: The figure of each evaluation item, `(n_items,)`.
        noise: Standard deviation that the seeds leave in the mean.
        block: As in `metric_interval`.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    drawn = np.stack([draw_items(rng, len(items), block) for _ in range(resamples)])
    draws = items[drawn].mean(axis=1) + rng.normal(size=resamples) * noise
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def draw_items(rng: np.random.Generator, count: int, block: int) -> NDArray[np.int64]:
    """Draw `count` items with replacement, in blocks of neighbours (the end joins the start).

    A block is at most a quarter of the items: of fewer than four blocks no spread can be told.
    """
    block = max(1, min(block, count // 4))
    starts = rng.integers(0, count, -(-count // block))
    return ((starts[:, None] + np.arange(block)) % count).ravel()[:count]
