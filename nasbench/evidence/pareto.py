"""Which plans no other dominates, and how much of the objectives' space they dominate together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

__all__ = ["LATENCY_RESOLUTION", "hypervolume", "minimised", "non_dominated", "on_front", "tied"]

FloatArray = NDArray[np.float64]

LATENCY_RESOLUTION = 0.01
"""Relative difference up to which two latencies are one on the front. Latency is measured to that precision."""


def minimised(values: FloatArray, directions: Sequence[str]) -> FloatArray:
    """Flip the sign of maximised columns, so that smaller is better everywhere.

    Args:
        values: One row a plan, one column an objective, `(n, m)`.
        directions: "maximize" or "minimize" for each column.
    """
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    return np.asarray(values, dtype=float).reshape(-1, len(signs)) * signs


def non_dominated(values: FloatArray, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Return which rows no other row dominates; equal rows are all kept, a row with a NaN never is.

    Args:
        values: `(n, m)`.
        directions: "maximize" or "minimize" for each column.
    """
    points = minimised(values, directions)
    kept = np.asarray(~np.isnan(points).any(axis=1))
    if kept.any():
        kept[kept] = moocore.is_nondominated(points[kept], keep_weakly=True)
    return kept


def on_front(values: FloatArray, directions: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return which plans are on the front. Latencies that cannot be told apart count as one.

    Args:
        values: One row a plan, one column an objective, `(n, m)`.
        directions: Objectives with their directions, in the order of the columns.
    """
    values = np.array(values, dtype=float).reshape(-1, len(directions))
    if "latency_ms" in directions:
        column = list(directions).index("latency_ms")
        values[:, column] = tied(values[:, column], LATENCY_RESOLUTION)
    return non_dominated(values, list(directions.values()))


def hypervolume(values: FloatArray, directions: Sequence[str], reference: Sequence[float]) -> float:
    """Return the volume dominated up to a reference point (in the objectives' own signs); 0 for no point.

    Args:
        values: `(n, m)`.
        directions: "maximize" or "minimize" for each column.
        reference: The reference point, fixed before the search.
    """
    points = minimised(values, directions)
    points = points[~np.isnan(points).any(axis=1)]
    if not len(points):
        return 0.0
    return float(moocore.hypervolume(points, ref=minimised(np.asarray(reference), directions)[0]))


def tied(values: FloatArray, resolution: float) -> FloatArray:
    """Return costs in which those that cannot be told apart are one: each that of its rank's smallest.

    From the smallest up, a cost that exceeds the first of its rank by no more than the resolution shares that rank. So
    a front is not made of differences that no measurement shows, and no chain of ties joins costs far apart.

    Args:
        values: Positive costs, `(n,)`.
        resolution: Largest relative difference that is a tie; 0 leaves all as they are.
    """
    shared = np.array(values, dtype=float)
    first = np.nan
    for index in np.argsort(shared, kind="stable"):
        if not shared[index] <= first * (1 + resolution):
            first = shared[index]
        shared[index] = first
    return shared
