"""Power: which differences a number of trainings can detect, and how many more trainings a given difference needs."""

from __future__ import annotations

import math

import numpy as np

from nasbench.evidence.noise import Noise
from nasbench.evidence.student import t_quantile

__all__ = ["detectable_difference", "items_needed", "least_difference", "more_seeds"]

_CHANCE = 0.8
"""A difference counts as detectable if its 95 % interval excludes 0 in at least this share of cases."""

_FLOOR = 2.8
"""The size of a detectable difference in standard errors: the 97.5 % plus the 80 % normal quantile, rounded."""

_MOST_SEEDS = 1000
"""Largest number of seeds that is considered. If a plan needs more, no number of seeds counts as enough."""


def detectable_difference(seeds: int, noise: Noise) -> float:
    """Return the smallest difference that is detected in 80 % of cases, if both plans have `seeds` seeds.

    Args:
        seeds: Number of seeds of each plan.
        noise: The noise, including the variance of the items.

    Returns:
        The size of the difference, which is positive. NaN if the noise is not known.
    """
    if not noise.freedom:
        return np.nan
    error, freedom = noise.error(seeds, seeds)
    return float((t_quantile(0.975, freedom) + t_quantile(_CHANCE, freedom)) * error)


def least_difference(noise: Noise) -> float:
    """Return the limit that the detectable difference approaches with more and more seeds.

    Smaller differences need more items.
    """
    return _FLOOR * math.sqrt(noise.item_variance)


def items_needed(effect: float, noise: Noise) -> int | None:
    """Return how many evaluation items are needed to detect a difference, if there are enough seeds.

    Args:
        effect: The difference, of either sign and not 0.
        noise: The noise, including the variance of the items.

    Returns:
        The number of items. None if no items were stored, because their variance is then not known.
    """
    if not noise.items:
        return None
    return math.ceil(noise.items * (least_difference(noise) / effect) ** 2)


def more_seeds(effect: float, seeds: int, bare_seeds: int, noise: Noise) -> int | None:
    """Return how many more seeds a plan needs to detect a difference, if the bare backbone then has as many seeds.

    The additional trainings improve the estimate of the noise, so their degrees of freedom are included.

    Args:
        effect: The difference, of either sign.
        seeds: Number of seeds that the plan has now.
        bare_seeds: Number of seeds that the bare backbone has now.
        noise: The noise, including the variance of the items.

    Returns:
        The number of additional seeds, at least 1. None if even 1000 seeds are not enough, or if the noise is not
        known.
    """
    if not noise.freedom or abs(effect) <= least_difference(noise):
        return None

    def decides(total: int) -> bool:
        added = total - seeds + max(0, total - bare_seeds)
        return detectable_difference(total, noise.with_seeds(added)) <= abs(effect)

    # More seeds always detect smaller differences, so the smallest number is found by bisection.
    low, high = seeds, _MOST_SEEDS
    if not decides(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high - seeds
