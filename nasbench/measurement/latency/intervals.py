"""Statistics of a latency measurement: medians with bootstrap intervals, and verdicts."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["MIN_PAIRS", "Interval", "Verdict", "median_interval", "verdict"]

Verdict = Literal["FASTER", "SLOWER", "SAME", "UNDECIDED"]
Interval = tuple[float, float, float]
"""Estimate, low, high."""

MIN_PAIRS = 8
"""Smallest number of blocks for a verdict.

With n samples, the true median lies outside their range with probability 2·(1/2)^n. This is under 1 % for n ≥ 8.
"""


def median_interval(values: ArrayLike, confidence: float) -> Interval:
    """Return the median of `values` with its bootstrap percentile interval.

    It is the interval that infinitely many resamples would give, but it is computed without drawing a resample. The
    median of a resample of n values is the sorted value at rank ⌊n·U⌋. U has the distribution of the middle order
    statistic of n uniform draws, which is Beta((n+1)/2, (n+1)/2). So the ends of the interval are two of the sorted
    values (Efron, "Bootstrap Methods", Annals of Statistics 1979, section 3). If all values change sign, the interval
    is mirrored exactly.

    Args:
        values: The values, (n,). NaN values are left out.
        confidence: Confidence level of the interval, such as 0.99.

    Returns:
        The median and the low and high end of the interval. All three are NaN if no value is left.
    """
    ordered = np.asarray(values, dtype=float)
    ordered = np.sort(ordered[~np.isnan(ordered)])
    n = len(ordered)
    if n == 0:
        return math.nan, math.nan, math.nan
    from scipy.special import betaincinv  # not scipy.stats, whose quantile is the same and takes seconds to import

    rank = int(n * betaincinv((n + 1) / 2, (n + 1) / 2, (1 - confidence) / 2))
    return float(np.median(ordered)), float(ordered[rank]), float(ordered[n - 1 - rank])


def verdict(interval: Interval, pairs: int, resolution: float) -> Verdict:
    """Judge a candidate against a reference from the interval of its log-ratio.

    Args:
        interval: Interval of log(candidate / reference).
        pairs: Number of blocks from which the interval was computed.
        resolution: Largest relative difference that counts as no difference, such as 0.01.

    Returns:
        SAME if the whole interval lies within ± the resolution, or if it contains 0 and is at most twice the resolution
        wide. FASTER or SLOWER if it does not contain 0 and is not completely within ± the resolution. Otherwise
        UNDECIDED.
    """
    _, low, high = interval
    if pairs < MIN_PAIRS or math.isnan(low):
        return "UNDECIDED"
    within = -resolution <= low and high <= resolution
    if within or (low <= 0 <= high and high - low <= 2 * resolution):
        return "SAME"
    if high < 0:
        return "FASTER"
    return "SLOWER" if low > 0 else "UNDECIDED"
