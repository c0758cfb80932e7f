"""Correction of p-values for several tests at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["holm"]


def holm(p: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which hypotheses are rejected. The probability of any wrong rejection is at most 5 % (Holm 1979).

    Args:
        p: The p-value of each hypothesis. A hypothesis with NaN is never rejected.
    """
    # NaN becomes a value above 1, which is sorted last and does not count as tested.
    values = np.where(np.isnan(p), 2.0, p)
    order = np.argsort(values, kind="stable")
    tested = int((values <= 1).sum())
    passed = values[order] <= 0.05 / np.maximum(tested - np.arange(len(values)), 1)
    rejected = np.zeros(len(values), dtype=bool)
    # Step-down: after the first hypothesis that is not rejected, no later one is rejected.
    rejected[order] = np.logical_and.accumulate(passed)
    return rejected
