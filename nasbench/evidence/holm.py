"""Correction of several tests at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["holm"]


def holm(p: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which hypotheses are rejected, with a chance of 5 % of any wrong rejection among them (Holm 1979).

    Args:
        p: The p-value of each hypothesis. One with NaN is never rejected.
    """
    values = np.where(np.isnan(p), 2.0, p)  # above 1: sorted last and not counted among the tested
    order = np.argsort(values, kind="stable")
    tested = int((values <= 1).sum())
    passed = values[order] <= 0.05 / np.maximum(tested - np.arange(len(values)), 1)
    rejected = np.zeros(len(values), dtype=bool)
    # Step-down: the first hypothesis that is not rejected ends it, whatever the later ones would give.
    rejected[order] = np.logical_and.accumulate(passed)
    return rejected
