"""The variance of a mean over evaluation items, also if neighbouring items depend on each other.

The windows of a forecasting task overlap, so neighbouring windows share most of their steps. The long-run variance of
items is n times the variance of the mean of n items, for large n.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from nasbench.evidence.student import t_quantile

__all__ = ["fewest_items", "item_freedom", "long_run_variance"]

FloatArray = NDArray[np.float64]

_FEWEST_HORIZONS = 6
"""Smallest length of a series, in horizons, with which the Bartlett kernel is used. For shorter series, intervals from
plain blocks have better coverage."""

_LAG_HORIZONS, _LAG_SHARE = 4, 0.2
"""Length of the kernel: four horizons, but at least a fifth of the series.

The errors of forecasts depend on each other even if their windows do not overlap. With any horizon, they can do so over
a day or a week. In a simulation with a horizon of a day, a memory of a week and 8,000 hours, the intervals contained
the true value in 66 % of cases with a kernel of four horizons, and in 94 % with a fifth of the series.
"""


def fewest_items(block: int = 1) -> int:
    """Return the smallest number of items that has a long-run variance, for a horizon or for independent items (1)."""
    return 2 * block


def long_run_variance(values: FloatArray, block: int = 1) -> FloatArray:
    """Return the long-run variance of items along the last axis.

    For independent items (`block` 1), it is their plain variance. For the windows of forecasts, it is the Bartlett
    estimate (Newey and West, Econometrica 1987). The length of the kernel is the larger of four horizons and a fifth of
    the series. If a series is shorter than six horizons, it is cut into blocks of one horizon, which are treated as
    independent.

    Args:
        values: The values of N items, `(..., N)`.
        block: The horizon of the forecasts, or 1 for independent items.

    Returns:
        The variances, `(...)`. NaN if there are fewer than two items or fewer than two blocks.
    """
    values = np.asarray(values, dtype=float)
    count = values.shape[-1]
    if count < fewest_items(block):
        return np.full(values.shape[:-1], np.nan)
    if block == 1:
        return np.asarray(values.var(axis=-1, ddof=1))
    if count < _FEWEST_HORIZONS * block:
        whole = count // block
        means = values[..., : whole * block].reshape(*values.shape[:-1], whole, block).mean(axis=-1)
        return np.asarray(block * means.var(axis=-1, ddof=1))
    reach = _reach(count, block)
    gaps = values - values.mean(axis=-1, keepdims=True)
    # In the sum of squares of all sums of `reach` neighbours, the autocovariance of lag j has the weight reach − j.
    # These are the Bartlett weights. Because of the zeros around the series, the sums at its ends have fewer terms.
    padding = [(0, 0)] * (values.ndim - 1) + [(reach, reach - 1)]
    totals = np.cumsum(np.pad(gaps, padding), axis=-1)
    sums = totals[..., reach:] - totals[..., :-reach]
    return np.asarray((sums**2).sum(axis=-1) / (count * reach))


def item_freedom(count: int, block: int = 1) -> float:
    """Return the degrees of freedom of `long_run_variance`. With them, Student's t has the right 97.5 % quantile.

    For the Bartlett estimate, the right quantile is the fixed-b quantile, 1.96 + 2.9694b + 0.416b² − 0.5324b³, where b
    is the length of the kernel divided by that of the series (Kiefer and Vogelsang, Econometric Theory 2005). It is
    expressed as degrees of freedom, so that it can be combined with the variance between seeds by Satterthwaite's rule.

    Args:
        count: Number of items.
        block: The horizon of the forecasts, or 1 for independent items.

    Returns:
        The degrees of freedom. NaN if `long_run_variance` is NaN.
    """
    if count < fewest_items(block):
        return np.nan
    if block == 1:
        return count - 1.0
    if count < _FEWEST_HORIZONS * block:
        return count // block - 1.0
    b = _reach(count, block) / count
    quantile = 1.96 + 2.9694 * b + 0.416 * b**2 - 0.5324 * b**3
    return float(brentq(lambda freedom: t_quantile(0.975, freedom) - quantile, 1.0, 1000.0))


def _reach(count: int, block: int) -> int:
    return max(_LAG_HORIZONS * block, int(_LAG_SHARE * count))
