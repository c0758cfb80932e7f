"""Pareto front and hypervolume of plans, and ties between measured costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

__all__ = ["LATENCY_RESOLUTION", "hypervolume", "minimised", "non_dominated", "on_front", "tied"]

FloatArray = NDArray[np.float64]

LATENCY_RESOLUTION = 0.01
"""Relative difference up to which two latencies count as equal on the front. Latency is measured to this precision."""


def minimised(values: FloatArray, directions: Sequence[str]) -> FloatArray:
    """Flip the sign of maximised columns, so that smaller is better everywhere.

    Args:
        values: One row for each plan, one column for each objective, `(n, m)`. directions: "maximize" or "minimize" for
            each column.
    """
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    return np.asarray(values, dtype=float).reshape(-1, len(signs)) * signs


def non_dominated(values: FloatArray, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Return a mask of the rows that no other row dominates. Equal rows are all kept, rows with a NaN never.

    Args:
        values: `(n, m)`.
        directions: "maximize" or "minimize" for each column.
    """
    points = minimised(values, directions)
    # A plan with a missing value cannot be compared. It must not be on the front, and it must not dominate other plans.
    kept = np.asarray(~np.isnan(points).any(axis=1))
    if kept.any():
        kept[kept] = moocore.is_nondominated(points[kept], keep_weakly=True)
    return kept


def on_front(values: FloatArray, directions: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return a mask of the plans on the front. Latencies that the measurement cannot distinguish count as equal.

    Args:
        values: One row per plan, one column per objective, `(n, m)`.
        directions: Objectives with their directions, in the order of the columns.
    """
    values = np.array(values, dtype=float).reshape(-1, len(directions))
    # Without ties, the noise of the measurement would decide which plans are on the front.
    if "latency_ms" in directions:
        column = list(directions).index("latency_ms")
        values[:, column] = tied(values[:, column], LATENCY_RESOLUTION)
    return non_dominated(values, list(directions.values()))


def hypervolume(values: FloatArray, directions: Sequence[str], reference: Sequence[float]) -> float:
    """Return the volume between the points and a reference point. 0 without points.

    Args:
        values: `(n, m)`.
        directions: "maximize" or "minimize" for each column.
        reference: The reference point, fixed before the search, with the signs of `values`.
    """
    points = minimised(values, directions)
    points = points[~np.isnan(points).any(axis=1)]
    if not len(points):
        return 0.0
    return float(moocore.hypervolume(points, ref=minimised(np.asarray(reference), directions)[0]))


def tied(values: FloatArray, resolution: float) -> FloatArray:
    """Return costs in which ties are equal: each cost becomes the smallest of its rank.

    Costs are visited from the smallest to the largest. A cost shares the current rank if it exceeds the first cost of
    that rank by at most the resolution. So no plan is on the front because of a difference that is smaller than the
    resolution, and no chain of ties joins costs that are far apart.

    Args:
        values: Positive costs, `(n,)`.
        resolution: Largest relative difference that is a tie. With 0, all costs are returned unchanged.
    """
    shared = np.array(values, dtype=float)
    first = np.nan
    for index in np.argsort(shared, kind="stable"):
        # Written with `not`, so that the first cost starts a rank (`first` is NaN) and a NaN cost never shares a rank.
        if not shared[index] <= first * (1 + resolution):
            first = shared[index]
        shared[index] = first
    return shared
