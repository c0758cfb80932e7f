"""Paired comparison of two plans on the same evaluation items: the difference, its interval and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.intervals import bootstrap_interval, mean_over_seeds, pooled_seed_deviation

__all__ = ["PairedDifference", "compare_pair", "verdict_of"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PairedDifference:
    """Difference between a plan and the reference that it is compared with.

    Attributes:
        difference: Metric of the plan minus metric of the reference. NaN where items are missing.
        low: Lower end of the 95 % interval of the difference. NaN where there is none.
        high: Upper end.
        verdict: BETTER, WORSE or NOT DECIDED. BARE for the bare backbone compared with itself.
        seeds: Number of seeds, of the side that has fewer.
    """

    difference: float
    low: float
    high: float
    verdict: str
    seeds: int

    @property
    def has_interval(self) -> bool:
        """Whether the difference has a 95 % interval."""
        return not np.isnan(self.low)

    @classmethod
    def of_itself(cls, seeds: int) -> PairedDifference:
        """Return the difference of the bare backbone from itself, which is exactly zero."""
        return cls(0.0, 0.0, 0.0, "BARE", seeds)


def compare_pair(
    plan_items: Sequence[FloatArray | None],
    reference_items: Sequence[FloatArray | None],
    *,
    direction: str,
    block: int,
    spread: float | None = None,
    fewest_seeds: int = 2,
) -> PairedDifference:
    """Compare a plan with a reference that was evaluated on the same items.

    Items are resampled in pairs. The seeds add the noise of a difference of two means, with variance
    `spread² · (1 / S_plan + 1 / S_reference)`.

    Two rules hold for every caller. One seed decides nothing, because it does not show how much seeds differ. If the
    items of any seed were not stored, there is no interval and no verdict.

    Args:
        plan_items: The metric per evaluation item, `(n_items,)`, for each seed of the plan. None where not stored.
        reference_items: The same for the reference.
        direction: Direction of the metric, "maximize" or "minimize".
        block: Number of consecutive items drawn together. For a forecast it is the horizon, because windows overlap.
        spread: Standard deviation between seeds, pooled over more plans than these two. By default over these two.
        fewest_seeds: Fewest seeds of either side for which an interval is given. With 1, the interval of a single seed
            covers the items only.
    """
    plan = [one for one in plan_items if one is not None]
    reference = [one for one in reference_items if one is not None]
    seeds = min(len(plan_items), len(reference_items))
    if not seeds or len(plan) < len(plan_items) or len(reference) < len(reference_items):
        return PairedDifference(np.nan, np.nan, np.nan, "NOT DECIDED", seeds)
    # Item by item: both sides saw the same items, so the difficulty of an item cancels in the difference.
    gap = mean_over_seeds(plan) - mean_over_seeds(reference)
    if seeds < fewest_seeds:
        return PairedDifference(float(gap.mean()), np.nan, np.nan, "NOT DECIDED", seeds)
    if spread is None:
        spread = pooled_seed_deviation([plan, reference])
    low, high = bootstrap_interval(gap, spread * np.sqrt(1 / len(plan) + 1 / len(reference)), block=block)
    return PairedDifference(float(gap.mean()), low, high, verdict_of(low, high, direction, seeds), seeds)


def verdict_of(low: float, high: float, direction: str, seeds: int) -> str:
    """Return the verdict on a difference: BETTER, WORSE or NOT DECIDED.

    Args:
        low: Lower end of its 95 % interval. NaN where there is none.
        high: Upper end.
        direction: Direction of the metric, "maximize" or "minimize".
        seeds: Number of seeds of the side that has fewer.
    """
    # Written with `not`, so that a NaN interval is NOT DECIDED.
    if seeds < 2 or not (low > 0 or high < 0):
        return "NOT DECIDED"
    return "BETTER" if (low > 0) == (direction == "maximize") else "WORSE"
