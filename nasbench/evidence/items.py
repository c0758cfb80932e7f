"""Variance of a mean over evaluation items, also where neighbouring items depend on each other.

The windows of a forecast overlap, so that neighbours share most of their steps. Their variance is the long-run
variance: n times the variance of the mean of n items.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from nasbench.evidence.student import t_quantile

__all__ = ["item_freedom", "long_run_variance"]

FloatArray = NDArray[np.float64]

_FEWEST_HORIZONS = 6
"""Fewest horizons in a series for which the Bartlett kernel is used. Below, plain blocks hold the truth more often."""

_LAG_HORIZONS, _LAG_SHARE = 4, 0.2
"""The kernel reaches over four horizons, at least a fifth of the series.

Errors of forecasts stay dependent beyond their windows' overlap, over a day or a week whatever the horizon. Simulated
at a horizon of a day and a memory of a week in 8,000 hours, four horizons alone held the truth in 66 % of cases, a
fifth of the series in 94 %.
"""


def long_run_variance(values: FloatArray, block: int = 1) -> FloatArray:
    """Return the long-run variance of items along the last axis.

    Independent items (`block` 1) have their plain variance. For a forecast it is the Bartlett estimate with a lag of
    four horizons or a fifth of the series, whichever is more (Newey and West, Econometrica 1987). A series of fewer
    than six horizons is cut into blocks of one horizon, which are taken as independent.

    Args:
        values: `(..., N)`.
        block: The horizon of a forecast, or 1.

    Returns:
        `(...)`. NaN where there are fewer than two items, or fewer than two blocks.
    """
    values = np.asarray(values, dtype=float)
    count = values.shape[-1]
    if count < 2 * block:
        return np.full(values.shape[:-1], np.nan)
    if block == 1:
        return np.asarray(values.var(axis=-1, ddof=1))
    if count < _FEWEST_HORIZONS * block:
        whole = count // block
        means = values[..., : whole * block].reshape(*values.shape[:-1], whole, block).mean(axis=-1)
        return np.asarray(block * means.var(axis=-1, ddof=1))
    reach = _reach(count, block)
    gaps = values - values.mean(axis=-1, keepdims=True)
    # The sum of squares of all sums of `reach` neighbours weights the autocovariance of lag j by reach − j, which are
    # the Bartlett weights. Zeros around the series make the sums at its ends shorter.
    padding = [(0, 0)] * (values.ndim - 1) + [(reach, reach - 1)]
    totals = np.cumsum(np.pad(gaps, padding), axis=-1)
    sums = totals[..., reach:] - totals[..., :-reach]
    return np.asarray((sums**2).sum(axis=-1) / (count * reach))


def item_freedom(count: int, block: int = 1) -> float:
    """Return the degrees of freedom of `long_run_variance`: its quantile of 97.5 % is that of Student's t with these.

    For the Bartlett estimate that quantile is the fixed-b one, 1.96 + 2.9694b + 0.416b² − 0.5324b³ with b the lag over
    the length of the series (Kiefer and Vogelsang, Econometric Theory 2005). Expressed as degrees of freedom it
    combines with the seeds' variance by Satterthwaite's rule, like any other estimated variance.

    Args:
        count: Number of items.
        block: The horizon of a forecast, or 1.

    Returns:
        Degrees of freedom. NaN where `long_run_variance` is.
    """
    if count < 2 * block:
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
