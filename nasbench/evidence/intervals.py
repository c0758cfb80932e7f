"""95 % intervals of a mean over evaluation items and seeds: bootstrap over the items, normal noise for the seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_interval", "draw_items", "mean_over_seeds", "metric_interval", "pooled_seed_deviation"]

FloatArray = NDArray[np.float64]


def mean_over_seeds(items: Sequence[FloatArray]) -> FloatArray:
    """Return the mean over seeds for each evaluation item, `(n_items,)`.

    Args:
        items: The metric per evaluation item, `(n_items,)`, for each seed.
    """
    return np.asarray(np.mean(np.stack(list(items)), axis=0))


def pooled_seed_deviation(items: Sequence[Sequence[FloatArray]]) -> float:
    """Return the standard deviation of the metric between seeds, pooled over all plans with several seeds.

    Args:
        items: The metric per evaluation item, `(n_items,)`, for each plan and each of its seeds.

    Returns:
        The deviation, 0 (not NaN) if no plan has several seeds.
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
        items: The metric per evaluation item, for each seed.
        spread: Standard deviation between seeds, pooled (`pooled_seed_deviation`).
        block: Number of consecutive items drawn together. For a forecast it is the horizon, because windows overlap.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.
    """
    noise = spread / np.sqrt(len(items))
    return bootstrap_interval(mean_over_seeds(items), noise, block=block, resamples=resamples, seed=seed)


def bootstrap_interval(
    items: FloatArray, noise: float, *, block: int = 1, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the mean over items, with normal seed noise added.

    Args:
        items: The value of each evaluation item, `(n_items,)`.
        noise: Standard error of the mean due to seeds.
        block: As in `metric_interval`.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    drawn = np.stack([draw_items(rng, len(items), block) for _ in range(resamples)])
    draws = items[drawn].mean(axis=1) + rng.normal(size=resamples) * noise
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def draw_items(rng: np.random.Generator, count: int, block: int) -> NDArray[np.int64]:
    """Draw `count` item indices with replacement, in blocks of neighbours (circular block bootstrap).

    A block is at most a quarter of the items, because fewer than four blocks show no spread.
    """
    block = max(1, min(block, count // 4))
    starts = rng.integers(0, count, -(-count // block))
    # The modulo joins the end to the start, so that every item is equally likely. The last block may be cut.
    return ((starts[:, None] + np.arange(block)) % count).ravel()[:count]
