"""What the zero-cost proxies were worth in a study: their correlation with the trained metric, beside the baselines.

A proxy that ranks plans no better than their parameters or MACs do is no reason to compute it; and none can tell more
than it agrees with itself from one draw of weights and batches to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from nasbench.objectives import RETEST
from nasbench.report.analysis.effects import best_known
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.run import Run

__all__ = ["BASELINES", "proxy_agreement", "proxy_table"]

FloatArray = NDArray[np.float64]

BASELINES = ("params", "macs")

COLUMNS = (
    *("predictor", "spearman", "low", "high", "n", "retest", "retest_n"),
    *("over_baseline", "over_low", "over_high", "verdict"),
)

_FEWEST = 4
"""Plans below which a rank correlation has no interval worth the name."""


def proxy_table(run: Run, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return how well each proxy, parameters and MACs rank the plans of a run; see `proxy_agreement`.

    Plans count that were trained in full, each with the search's seed. The table is empty where every objective is a
    cost.
    """
    if run.metric is None:
        return pd.DataFrame(columns=list(COLUMNS))
    known = best_known(run.evaluations())
    return proxy_agreement(list(known.values()), run.metric, run.directions[run.metric], resamples=resamples, seed=seed)


def proxy_agreement(
    evaluations: Sequence[Evaluation], metric: str, direction: str, *, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Return how well each proxy, and the baselines params and MACs, rank plans by their trained metric.

    Args:
        evaluations: One complete evaluation a plan.
        metric: The trained metric.
        direction: "maximize" or "minimize"; a correlation above 0 means that a higher score goes with a better metric.
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
    sign = 1.0 if direction == "maximize" else -1.0
    good = sign * np.array([evaluation.metrics[metric] for evaluation in evaluations], dtype=float)
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.proxies)
    proxies = [name for name in names if not name.endswith(RETEST)]
    base = np.stack([_column(evaluations, name) for name in BASELINES])
    rows = []
    for name in (*BASELINES, *proxies):
        figures = _column(evaluations, name)
        there = ~np.isnan(figures)
        columns = np.vstack([figures, base])[:, there]
        value, interval, over, over_interval = _compared(columns, good[there], resamples, seed)
        again = _column(evaluations, name + RETEST)
        both = there & ~np.isnan(again)
        is_baseline = name in BASELINES
        rows.append(
            {
                "predictor": name,
                "spearman": value,
                "low": interval[0],
                "high": interval[1],
                "n": int(there.sum()),
                "retest": 1.0 if is_baseline else _agreement(figures[both], again[both]),
                "retest_n": int(there.sum() if is_baseline else both.sum()),
                "over_baseline": np.nan if is_baseline else over,
                "over_low": np.nan if is_baseline else over_interval[0],
                "over_high": np.nan if is_baseline else over_interval[1],
                "verdict": "BASELINE" if is_baseline else _verdict(*over_interval),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _column(evaluations: Sequence[Evaluation], name: str) -> FloatArray:
    found = [evaluation.values.get(name) for evaluation in evaluations]
    return np.array([np.nan if value is None else float(value) for value in found], dtype=float)


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
