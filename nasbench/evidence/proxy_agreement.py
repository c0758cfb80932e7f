"""What the zero-cost proxies were worth in a study: their correlation with the trained metric, beside the baselines.

A proxy that ranks plans no better than their parameters or MACs do is no reason to compute it; and none can tell more
than it agrees with itself from one draw of weights and batches to the next.
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
"""Plans below which a rank correlation has no interval worth the name."""


def proxy_agreement(
    figures: Mapping[str, FloatArray],
    metric: FloatArray,
    direction: str,
    *,
    retests: Mapping[str, FloatArray] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how well each proxy, and the baselines params and MACs, rank plans by their trained metric.

    Args:
        figures: By predictor, the `BASELINES` and the proxies, its figure of each plan, `(n_plans,)`; NaN for none.
        metric: The trained metric of each plan, `(n_plans,)`.
        direction: "maximize" or "minimize"; a correlation above 0 means that a higher score goes with a better metric.
        retests: By proxy its figure for other initial weights and batches, `(n_plans,)`.
        resamples: Bootstrap resamples over plans.
        seed: Of the bootstrap.

    Returns:
        One row a predictor, the baselines first. Columns: predictor; spearman, with low and high (95 %, bootstrap over
        plans); n (plans with this figure); retest, the Spearman correlation of the proxy with itself for other initial
        weights and batches, and retest_n (no draw changes a baseline: 1); over_baseline, the correlation less that of
        the better baseline on the same plans, with over_low and over_high, the baseline chosen anew in each resample;
        verdict: BASELINE, BETTER, NOT BETTER (the interval lies below 0) or NOT DECIDED. NaN where there are fewer
        than 4 plans, or one of the two does not vary.
    """
    good = metric if direction == "maximize" else -metric
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


def _compared(
    columns: FloatArray, good: FloatArray, resamples: int, seed: int
) -> tuple[float, tuple[float, float], float, tuple[float, float]]:
    """Return the correlation of the first column, and by how much it exceeds the best of the others; with intervals."""
    if len(good) < _FEWEST:
        return np.nan, (np.nan, np.nan), np.nan, (np.nan, np.nan)
    drawn = np.random.default_rng(seed).integers(0, len(good), (resamples, len(good)))
    drawn = np.concatenate([np.arange(len(good))[None, :], drawn])  # the first is the study itself
    values = np.stack([_spearman(column[drawn], good[drawn]) for column in columns], axis=1)
    best = np.where(np.isnan(values[:, 1:]).all(axis=1), 0.0, np.nan_to_num(values[:, 1:], nan=-1.0).max(axis=1))
    over = values[:, 0] - best
    return float(values[0, 0]), _interval(values[1:, 0]), float(over[0]), _interval(over[1:])


def _agreement(first: FloatArray, second: FloatArray) -> float:
    return np.nan if len(first) < _FEWEST else float(_spearman(first, second)[()])


def _interval(draws: FloatArray) -> tuple[float, float]:
    """Return the 95 % interval of draws; resamples in which one side does not vary have no correlation."""
    known = draws[~np.isnan(draws)]
    if len(known) < len(draws) / 2:
        return np.nan, np.nan
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def _spearman(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return Spearman's rank correlation along the last axis, ties shared; NaN where one of the two does not vary."""
    x, y = rankdata(a, axis=-1), rankdata(b, axis=-1)
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return np.divide((x * y).sum(axis=-1), size, out=np.full_like(size, np.nan), where=size > 0)


def _verdict(low: float, high: float) -> str:
    if np.isnan(low) or low <= 0 <= high:
        return "NOT DECIDED"
    return "BETTER" if low > 0 else "NOT BETTER"
