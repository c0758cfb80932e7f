"""One plan held against another on the same evaluation items: the difference, its interval and a verdict."""

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
    """How a plan differs from what it is held against.

    Attributes:
        difference: The plan's metric minus the reference's; NaN where the items do not give it.
        low: Lower end of its 95 % interval; NaN where there is none.
        high: Upper end.
        verdict: BETTER, WORSE or NOT DECIDED; BARE for the bare backbone against itself.
        seeds: Seeds behind it: those of the side that has fewer.
    """

    difference: float
    low: float
    high: float
    verdict: str
    seeds: int

    @property
    def has_interval(self) -> bool:
        """Whether its 95 % interval is known."""
        return not np.isnan(self.low)

    @classmethod
    def of_itself(cls, seeds: int) -> PairedDifference:
        """Return the difference of the bare backbone to itself, which is exactly zero."""
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
    """Return how a plan differs from a reference that was evaluated on the same items.

    Items are resampled in pairs. The seeds add the noise of a difference of two means, of variance
    `spread² · (1 / S_plan + 1 / S_reference)`.

    Two rules hold for every caller. One seed decides nothing, for nothing is known of how seeds differ. And where the
    items of a seed were not stored, there is no interval, and so no verdict either.

    Args:
        plan_items: For each seed of the plan the metric per evaluation item, `(n_items,)`; None where not stored.
        reference_items: The same of the reference.
        direction: Of the metric, "maximize" or "minimize".
        block: Items in a row that are drawn together: the horizon of a forecast, whose windows overlap.
        spread: The deviation between seeds, pooled over more plans than these two; by default over these two.
        fewest_seeds: Seeds of either side from which an interval is given. With 1 that of a single seed covers the
            items alone.
    """
    plan = [one for one in plan_items if one is not None]
    reference = [one for one in reference_items if one is not None]
    seeds = min(len(plan_items), len(reference_items))
    if not seeds or len(plan) < len(plan_items) or len(reference) < len(reference_items):
        return PairedDifference(np.nan, np.nan, np.nan, "NOT DECIDED", seeds)
    gap = mean_over_seeds(plan) - mean_over_seeds(reference)
    if seeds < fewest_seeds:
        return PairedDifference(float(gap.mean()), np.nan, np.nan, "NOT DECIDED", seeds)
    if spread is None:
        spread = pooled_seed_deviation([plan, reference])
    low, high = bootstrap_interval(gap, spread * np.sqrt(1 / len(plan) + 1 / len(reference)), block=block)
    return PairedDifference(float(gap.mean()), low, high, verdict_of(low, high, direction, seeds), seeds)


def verdict_of(low: float, high: float, direction: str, seeds: int) -> str:
    """Say whether a difference is decided: BETTER, WORSE or NOT DECIDED.

    Args:
        low: Lower end of its 95 % interval; NaN where there is none.
        high: Upper end.
        direction: Of the metric, "maximize" or "minimize".
        seeds: Seeds behind it.
    """
    if seeds < 2 or not (low > 0 or high < 0):
        return "NOT DECIDED"
    return "BETTER" if (low > 0) == (direction == "maximize") else "WORSE"
