"""The statistics of a latency measurement: medians with bootstrap intervals, and verdicts."""

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
"""Fewer blocks than this decide nothing: below it no interval of a median can be sure to 99 %."""


def median_interval(values: ArrayLike, confidence: float) -> Interval:
    """Return the median of `values` with its bootstrap percentile interval.

    The median of a resample of n values is the value at rank ⌊n·U⌋, with U distributed as the middle order statistic
    of n uniform draws, Beta((n+1)/2, (n+1)/2): the interval of infinitely many resamples is read off the sorted values,
    without drawing any (Efron, "Bootstrap Methods", Annals of Statistics 1979, section 3). It mirrors exactly when the
    values change sign.

    Args:
        values: (n,); not-a-number values are left out.
        confidence: Such as 0.99.

    Returns:
        Median, low, high; three NaN where nothing is left.
    """
    kept = np.asarray(values, dtype=float)
    kept = np.sort(kept[~np.isnan(kept)])
    n = len(kept)
    if n == 0:
        return math.nan, math.nan, math.nan
    from scipy.stats import beta  # takes a second

    rank = int(n * beta.ppf((1 - confidence) / 2, (n + 1) / 2, (n + 1) / 2))
    return float(np.median(kept)), float(kept[rank]), float(kept[n - 1 - rank])


def verdict(interval: Interval, pairs: int, resolution: float) -> Verdict:
    """Judge a candidate against a reference from the interval of its log-ratio.

    Args:
        interval: Of log(candidate / reference).
        pairs: Blocks behind it.
        resolution: Differences up to this share count as none, such as 0.01.

    Returns:
        SAME if the whole interval lies within the resolution, or it holds 0 and is no wider than ± the resolution.
        FASTER or SLOWER if it is apart from 0 and reaches further than the resolution. Else UNDECIDED.
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
