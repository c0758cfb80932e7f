"""The Pareto front and the hypervolume of plans, and ties between measured costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

__all__ = ["LATENCY_RESOLUTION", "hypervolume", "minimised", "non_dominated", "on_front", "tied"]

FloatArray = NDArray[np.float64]

LATENCY_RESOLUTION = 0.01
"""Latencies that exceed the smallest of their group by at most this share count as equal on the front (`tied`).

Latency is measured with about this precision."""


def minimised(values: FloatArray, directions: Sequence[str]) -> FloatArray:
    """Flip the sign of maximised columns, so that smaller is better in every column.

    Args:
        values: One row for each plan and one column for each objective, `(n, m)`.
        directions: "maximize" or "minimize" for each column.
    """
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    return np.asarray(values, dtype=float).reshape(-1, len(signs)) * signs


def non_dominated(values: FloatArray, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Return a mask of the rows that no other row dominates.

    Rows that are equal do not dominate each other. A row with a NaN is never in the mask.

    Args:
        values: One row for each plan and one column for each objective, `(n, m)`.
        directions: "maximize" or "minimize" for each column.
    """
    points = minimised(values, directions)
    # A plan with a missing value cannot be compared. So it is not on the front, and it does not dominate other plans.
    kept = np.asarray(~np.isnan(points).any(axis=1))
    if kept.any():
        kept[kept] = moocore.is_nondominated(points[kept], keep_weakly=True)
    return kept


def on_front(values: FloatArray, directions: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return a mask of the plans on the front. Latencies in the same group of `tied` count as equal.

    Args:
        values: One row for each plan and one column for each objective, `(n, m)`.
        directions: The objectives with their directions, in the order of the columns.
    """
    values = np.array(values, dtype=float).reshape(-1, len(directions))
    # If there were no ties, the noise of the measurement would decide which plans are on the front.
    if "latency_ms" in directions:
        column = list(directions).index("latency_ms")
        values[:, column] = tied(values[:, column], LATENCY_RESOLUTION)
    return non_dominated(values, list(directions.values()))


def hypervolume(values: FloatArray, directions: Sequence[str], reference: Sequence[float]) -> float:
    """Return the volume that the points dominate, up to a reference point.

    Points with a NaN are left out. The volume is 0 if no points remain.

    Args:
        values: One row for each point and one column for each objective, `(n, m)`.
        directions: "maximize" or "minimize" for each column.
        reference: The reference point, which is fixed before the search. It has the units and signs of
            `values`: maximised columns are not negated.
    """
    points = minimised(values, directions)
    points = points[~np.isnan(points).any(axis=1)]
    if not len(points):
        return 0.0
    return float(moocore.hypervolume(points, ref=minimised(np.asarray(reference), directions)[0]))


def tied(values: FloatArray, resolution: float) -> FloatArray:
    """Return costs in which ties are equal. Each cost becomes the smallest cost of its group.

    The costs are visited from the smallest to the largest. A cost joins the current group if it exceeds the first cost
    of this group by at most the resolution. Otherwise it is the first of a new group. So costs that are far apart never
    become equal through a chain of ties. But two close costs remain different if a new group begins between them.

    Args:
        values: Positive costs, `(n,)`.
        resolution: Largest relative difference that counts as a tie. If it is 0, all costs are returned unchanged.
    """
    shared = np.array(values, dtype=float)
    first = np.nan
    for index in np.argsort(shared, kind="stable"):
        # The condition is written with `not`, so that the first cost starts a group (`first` is NaN), and so does every
        # NaN.
        if not shared[index] <= first * (1 + resolution):
            first = shared[index]
        shared[index] = first
    return shared
