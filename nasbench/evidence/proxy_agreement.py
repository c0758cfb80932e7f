"""The correlation of the zero-cost proxies of a search with the metric after training, compared with baselines.

A proxy is useful only if it ranks plans better than their number of parameters or MACs does. The
correlation of a proxy with its own scores from other initial weights and batches is reported too. If it is low, the
correlation with the metric cannot be high.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

__all__ = ["BASELINES", "COLUMNS", "proxy_agreement"]

FloatArray = NDArray[np.float64]

BASELINES = ("params", "macs")

COLUMNS = (
    *("predictor", "spearman", "low", "high", "n", "retest", "retest_n"),
    *("over_baseline", "over_low", "over_high", "verdict"),
)

_FEWEST = 4
"""Smallest number of plans for which a rank correlation and its interval are reported."""


def proxy_agreement(
    figures: Mapping[str, FloatArray],
    metric: FloatArray,
    direction: str,
    *,
    retests: Mapping[str, FloatArray] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how well each proxy, and each of the baselines params and MACs, ranks plans by their trained metric.

    Args:
        figures: For each predictor (the `BASELINES` and the proxies), the score of each plan, `(n_plans,)`. A missing
            score is NaN.
        metric: For each plan, the metric after training, `(n_plans,)`.
        direction: Direction of the metric, "maximize" or "minimize". A correlation above 0 always means that plans with
            a higher score have a better metric.
        retests: For each proxy, the score of each plan from other initial weights and batches, `(n_plans,)`.
        resamples: Number of bootstrap resamples over plans.
        seed: Seed of the bootstrap.

    Returns:
        One row for each predictor, with the baselines first. The columns are:

        - predictor.
        - spearman, low and high: the Spearman correlation with its 95 % interval, by bootstrap over plans.
        - n: number of plans with this score.
        - retest and retest_n: Spearman correlation of the proxy's scores with its scores from other initial weights and
          batches, and the number of plans used. For a baseline it is 1, because a baseline does not depend on weights.
        - over_baseline, over_low and over_high: the correlation minus the correlation of the better baseline on the
          same plans, with its 95 % interval. The better baseline is chosen again in each resample.
        - verdict: BASELINE for a baseline. For a proxy BETTER if the interval of over_baseline is above 0, NOT BETTER
          if it is below 0, and otherwise NOT DECIDED.

        A correlation is NaN if there are fewer than 4 plans, or if one of its two variables does not vary. For
        over_baseline, a baseline that does not vary counts as the worst, and if neither varies, the better one counts
        as 0. An interval is NaN if fewer than half of the resamples have a correlation.
    """
    good = metric if direction == "maximize" else -metric  # higher is better from here on
    base = np.stack([figures[name] for name in BASELINES])
    rows = []
    for name in (*BASELINES, *(name for name in figures if name not in BASELINES)):
        own = figures[name]
        there = ~np.isnan(own)
        value, interval, over, over_interval = _compared(np.vstack([own, base])[:, there], good[there], resamples, seed)
        again = (retests or {}).get(name, np.full_like(own, np.nan))
        both = there & ~np.isnan(again)
        is_baseline = name in BASELINES
        rows.append(
            {
                "predictor": name,
                "spearman": value,
                "low": interval[0],
                "high": interval[1],
                "n": int(there.sum()),
                "retest": 1.0 if is_baseline else _agreement(own[both], again[both]),
                "retest_n": int(there.sum() if is_baseline else both.sum()),
                "over_baseline": np.nan if is_baseline else over,
                "over_low": np.nan if is_baseline else over_interval[0],
                "over_high": np.nan if is_baseline else over_interval[1],
                "verdict": "BASELINE" if is_baseline else _verdict(*over_interval),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


_BLOCK = 500_000
"""Number of values that are ranked at once."""


def _compared(
    columns: FloatArray, good: FloatArray, resamples: int, seed: int
) -> tuple[float, tuple[float, float], float, tuple[float, float]]:
    """Return the correlation of the first column, and how far it is above the best of the others, with intervals."""
    if len(good) < _FEWEST:
        return np.nan, (np.nan, np.nan), np.nan, (np.nan, np.nan)
    drawn = np.random.default_rng(seed).integers(0, len(good), (resamples, len(good)))
    # Row 0 is the original sample, which gives the estimate.
    drawn = np.concatenate([np.arange(len(good))[None, :], drawn])
    # in blocks, because the ranks of all resamples of ten thousand plans at once take a gigabyte
    blocks = np.array_split(drawn, -(-drawn.size // _BLOCK))
    values = np.concatenate(
        [np.stack([_spearman(column[rows], good[rows]) for column in columns], axis=1) for rows in blocks]
    )
    # A baseline that does not vary has no correlation. It counts as -1, the worst. If neither varies, the best is 0.
    best = np.where(np.isnan(values[:, 1:]).all(axis=1), 0.0, np.nan_to_num(values[:, 1:], nan=-1.0).max(axis=1))
    over = values[:, 0] - best
    return float(values[0, 0]), _interval(values[1:, 0]), float(over[0]), _interval(over[1:])


def _agreement(first: FloatArray, second: FloatArray) -> float:
    return np.nan if len(first) < _FEWEST else float(_spearman(first, second)[()])


def _interval(draws: FloatArray) -> tuple[float, float]:
    """Return the 95 % interval of the draws that have a correlation, or NaN if fewer than half of them have one."""
    known = draws[~np.isnan(draws)]  # a resample has no correlation if one variable does not vary
    if len(known) < len(draws) / 2:
        return np.nan, np.nan
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def _spearman(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return Spearman's correlation along the last axis, with mean ranks for ties. NaN if a variable does not vary."""
    x, y = rankdata(a, axis=-1), rankdata(b, axis=-1)
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return np.divide((x * y).sum(axis=-1), size, out=np.full_like(size, np.nan), where=size > 0)


def _verdict(low: float, high: float) -> str:
    if np.isnan(low) or low <= 0 <= high:
        return "NOT DECIDED"
    return "BETTER" if low > 0 else "NOT BETTER"
