"""How far two rankings of the same plans agree: Kendall's tau with a bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST", "RankAgreement", "rank_agreement"]

FloatArray = NDArray[np.float64]

FEWEST = 4
"""Smallest number of plans whose rankings are compared."""

_BLOCK = 2_000_000
"""Number of pairs that are looked at at once."""


@dataclass(frozen=True)
class RankAgreement:
    """How far two rankings agree.

    Attributes:
        plans: Number of plans.
        tau: Kendall's tau-b: 1 if both rankings are equal, -1 if one is the reverse of the other. NaN if there are
            fewer than `FEWEST` plans, or if one of the two values does not vary.
        low: Lower end of the 95 % interval, by bootstrap over plans. It is 0 instead of above 0 if unrelated rankings
            agree as much in more than 5 % of permutations. NaN if fewer than half of the resamples have a tau.
        high: Upper end of the same interval, likewise.
    """

    plans: int
    tau: float
    low: float
    high: float


def rank_agreement(first: FloatArray, second: FloatArray, *, resamples: int = 2000, seed: int = 0) -> RankAgreement:
    """Compare two rankings of the same plans.

    τ_b = (concordant - discordant pairs) / √(pairs not tied in the first · pairs not tied in the second) (Kendall,
    Biometrika 1945). A plan that is drawn twice is tied with itself in both, so it does not count as agreement.

    Args:
        first: The first value of each plan, `(n_plans,)`. Higher is better.
        second: The second value of each plan, `(n_plans,)`. Higher is better.
        resamples: Number of bootstrap resamples over plans.
        seed: Seed of the bootstrap.
    """
    count = len(first)
    if count < FEWEST:
        return RankAgreement(count, np.nan, np.nan, np.nan)
    a, b = (np.sign(np.subtract.outer(each, each)) for each in (first, second))
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, count, (resamples, count))
    drawn = np.concatenate([np.arange(count)[None, :], drawn])  # row 0 is the original sample, the estimate
    blocks = np.array_split(drawn, -(-drawn.size * count // _BLOCK))
    values = np.concatenate([_tau(_pairs(a, rows), _pairs(b, rows)) for rows in blocks])
    known = values[1:][~np.isnan(values[1:])]
    if 2 * len(known) < resamples:
        return RankAgreement(count, float(values[0]), np.nan, np.nan)
    low, high = np.quantile(known, [0.025, 0.975])
    # With few plans, the resamples hardly differ. Equal orders of four plans have a tau of 1 in all of them, and yet
    # one of twelve unrelated pairs of orders is equal or reversed.
    orders = rng.permuted(np.tile(np.arange(count), (resamples, 1)), axis=1)
    shuffled = np.concatenate([_tau(a[None], _pairs(b, rows)) for rows in np.array_split(orders, len(blocks))])
    if (np.abs(shuffled) >= abs(values[0]) - 1e-9).mean() > 0.05:
        low, high = min(low, 0.0), max(high, 0.0)
    return RankAgreement(count, float(values[0]), float(low), float(high))


def _pairs(signs: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
    """Return the signs of the differences of drawn plans, `(resamples, n_plans, n_plans)`."""
    return np.asarray(signs[rows[:, :, None], rows[:, None, :]])


def _tau(a: FloatArray, b: FloatArray) -> FloatArray:
    agreed = (a * b).sum(axis=(1, 2))
    size = np.sqrt((a**2).sum(axis=(1, 2)) * (b**2).sum(axis=(1, 2)))
    return np.divide(agreed, size, out=np.full_like(size, np.nan), where=size > 0)
