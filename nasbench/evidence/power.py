"""Power: which differences a number of trainings can show, and how many more would decide a given one."""

from __future__ import annotations

import math

import numpy as np

from nasbench.evidence.noise import Noise
from nasbench.evidence.student import t_quantile

__all__ = ["detectable_difference", "items_needed", "least_difference", "more_seeds"]

_CHANCE = 0.8
"""A detectable difference is found in this share of cases."""

_FLOOR = 2.8
"""Sum of the normal quantiles of 97.5 % and 80 %, rounded: how many standard errors a difference must have."""

_MOST_SEEDS = 1000
"""Nobody trains a plan more often. A larger number counts as none."""


def detectable_difference(seeds: int, noise: Noise) -> float:
    """Return the smallest difference that is found in 80 % of cases, both sides trained on `seeds` seeds.

    Args:
        seeds: Number of seeds of each side.
        noise: The noise, with the variance of the items.

    Returns:
        The difference, positive. NaN if the noise is not known.
    """
    if not noise.freedom:
        return np.nan
    error, freedom = noise.error(seeds, seeds)
    return float((t_quantile(0.975, freedom) + t_quantile(_CHANCE, freedom)) * error)


def least_difference(noise: Noise) -> float:
    """Return the difference below which no number of seeds helps, because the items are too few."""
    return _FLOOR * math.sqrt(noise.item_variance)


def items_needed(effect: float, noise: Noise) -> int | None:
    """Return how many evaluation items would show a difference, with seeds enough.

    Args:
        effect: The difference, of either sign and not 0.
        noise: The noise, with the variance of the items.

    Returns:
        The number of items. None if no items were stored, so that their variance is not known.
    """
    if not noise.items:
        return None
    return math.ceil(noise.items * (least_difference(noise) / effect) ** 2)


def more_seeds(effect: float, seeds: int, bare_seeds: int, noise: Noise) -> int | None:
    """Return how many more seeds of a plan would decide a difference, the bare backbone being trained as often.

    The added trainings make the noise better known, so their degrees of freedom count.

    Args:
        effect: The difference, of either sign.
        seeds: Number of seeds that the plan has.
        bare_seeds: Number of seeds that the bare backbone has.
        noise: The noise, with the variance of the items.

    Returns:
        The number of seeds, at least 1. None if no number of seeds would decide, or if the noise is not known.
    """
    if not noise.freedom or abs(effect) <= least_difference(noise):
        return None

    def decides(total: int) -> bool:
        added = total - seeds + max(0, total - bare_seeds)
        return detectable_difference(total, noise.with_seeds(added)) <= abs(effect)

    # More seeds always detect less, so the least number is found by halving.
    low, high = seeds, _MOST_SEEDS
    if not decides(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high - seeds
