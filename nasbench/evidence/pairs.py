"""Paired comparison of two plans on the same evaluation items: the difference, its interval and a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasbench.evidence.items import long_run_variance
from nasbench.evidence.noise import Noise, pooled_noise
from nasbench.evidence.student import t_p_value, t_quantile
from nasbench.evidence.trainings import Trainings

__all__ = ["PairedDifference", "compare_pair", "item_variance", "mean_interval", "verdict_of"]


@dataclass(frozen=True)
class PairedDifference:
    """The difference of a plan from the reference with which it is compared. Higher is better.

    Attributes:
        difference: Mean score of the plan minus that of the reference. The sign of a metric that is minimised was
            changed before (`Trainings.of`), so a positive difference always means that the plan is better.
        low: Lower end of the 95 % interval of the difference. NaN if there is no interval.
        high: Upper end of the same interval.
        verdict: BETTER, WORSE or NOT DECIDED. BARE if the bare backbone is compared with itself.
        seeds: Number of seeds of the plan or the reference, whichever is smaller.
        error: Standard error of the difference. NaN if there is no interval.
        freedom: Degrees of freedom of the standard error.
        p: The p-value: the probability of a difference at least this far from 0 if the true difference is 0. NaN if
            there is no interval.
    """

    difference: float
    low: float
    high: float
    verdict: str
    seeds: int
    error: float = np.nan
    freedom: float = np.nan
    p: float = np.nan

    @property
    def has_interval(self) -> bool:
        """Whether the difference has a 95 % interval."""
        return not np.isnan(self.low)

    @classmethod
    def of_itself(cls, seeds: int) -> PairedDifference:
        """Return the difference of the bare backbone from itself, which is exactly zero."""
        return cls(0.0, 0.0, 0.0, "BARE", seeds, 0.0, np.inf, 1.0)


def compare_pair(plan: Trainings, reference: Trainings, noise: Noise | None = None) -> PairedDifference:
    """Compare a plan with a reference that was evaluated on the same items.

    The interval is Δ ± t(0.975, df)·SE with SE² = V + s²·(1/S + 1/S_reference). Δ is the difference, S and S_reference
    are the numbers of seeds, s² is the variance between seeds, df the degrees of freedom of SE (`Noise.error`), and V
    the variance due to the items. V is estimated from these two plans. The variance of the changes that seeds cause on
    single items is subtracted, because s² already includes it. If V is then below 0, it counts as 0. If the plan or the
    reference has one seed, there is no interval, and the verdict is NOT DECIDED. The two can have different numbers of
    seeds.

    If items depend on each other, V is a long-run variance with few degrees of freedom (`item_freedom`). They are
    combined with the degrees of freedom of s². `item_freedom` is chosen so that, if seeds caused no noise, t(0.975, df)
    would be the fixed-b quantile of this long-run variance.

    Args:
        plan: The trainings of the plan.
        reference: The trainings of the reference.
        noise: The noise, pooled over the run. None means that it is pooled over these two plans.

    Raises:
        ValueError: If plan and reference have items, but different numbers of them.
    """
    seeds = min(plan.seeds, reference.seeds)
    difference = plan.mean - reference.mean
    noise = pooled_noise([plan, reference]) if noise is None else noise
    if seeds < 2 or not noise.freedom:
        return PairedDifference(difference, np.nan, np.nan, "NOT DECIDED", seeds)
    of_items = item_variance(plan, reference, plan.interaction, reference.interaction)
    error, freedom = noise.with_items(of_items).error(plan.seeds, reference.seeds)
    half = t_quantile(0.975, freedom) * error
    low, high = difference - half, difference + half
    # If there is no noise, t is undefined. Then p is 0, or 1 if the difference is zero.
    p = t_p_value(difference / error, freedom) if error != 0 else float(difference == 0)
    return PairedDifference(difference, low, high, verdict_of(low, high), seeds, error, freedom, p)


def mean_interval(plan: Trainings, noise: Noise | None = None) -> tuple[float, float]:
    """Return the 95 % interval of one plan's metric, over items and seeds. Its ends are NaN if the plan has one seed.

    Args:
        plan: The trainings of the plan. For a metric that is minimised, the interval is that of the negated metric,
            so higher is better.
        noise: The noise, pooled over the run. None means that it is estimated from this plan.
    """
    noise = pooled_noise([plan]) if noise is None else noise
    if plan.seeds < 2 or not noise.freedom:
        return np.nan, np.nan
    of_items = 0.0
    if plan.item_means is not None:
        square = float(long_run_variance(plan.item_means, plan.block)) - plan.interaction / plan.seeds
        of_items = square / len(plan.item_means)
    error, freedom = noise.with_items(of_items).error(plan.seeds)
    half = t_quantile(0.975, freedom) * error
    return plan.mean - half, plan.mean + half


def item_variance(plan: Trainings, reference: Trainings, of_plan: float, of_reference: float) -> float:
    """Return the variance of the difference of two means due to the choice of the items (`Noise.item_variance`).

    With N items, it is (variance of the differences over the items − W/S of the plan − W/S of the reference) / N, where
    S is the number of seeds of each and W its variance from seeds on single items. The estimate is unbiased, so it can
    be negative if the true variance is small. It is 0 if there are no items.

    Args:
        plan: The trainings of the plan.
        reference: The trainings of the reference.
        of_plan: Variance W of the changes that seeds cause on single items of the plan: its own `interaction`, or a
            pooled value.
        of_reference: The same variance for the reference.

    Raises:
        ValueError: If plan and reference have items, but different numbers of them.
    """
    if plan.item_means is None or reference.item_means is None:
        return 0.0
    gaps = plan.item_means - reference.item_means
    square = float(long_run_variance(gaps, plan.block)) - of_plan / plan.seeds - of_reference / reference.seeds
    return square / len(gaps)


def verdict_of(low: float, high: float) -> str:
    """Return the verdict on a difference (higher is better): BETTER, WORSE or NOT DECIDED.

    Args:
        low: Lower end of the 95 % interval of the difference. NaN if there is no interval.
        high: Upper end of the same interval.
    """
    if low > 0:
        return "BETTER"
    return "WORSE" if high < 0 else "NOT DECIDED"
