"""Exact expected hypervolume improvement, by a decomposition of the non-dominated region into boxes.

The expected improvement is the sum, over the boxes, of the expected volume that a candidate covers in the box. If the
objectives are independent, this volume is a product over the axes (one axis for each objective). A coordinate that is
known contributes a length. A coordinate with a normal distribution contributes the integral of its distribution
function. So the result is exact for known costs, and has a closed form for any number of modelled objectives. All
objectives are minimised.

Sources:
    Emmerich et al., "Hypervolume-based expected improvement", CEC 2011.
    Yang et al., "Efficient computation of expected hypervolume improvement using box decomposition algorithms",
    J. Global Optimization 2019, arXiv:1904.12672.
"""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

__all__ = ["MAX_FRONT", "expected_improvement", "nondominated_boxes"]

FloatArray = NDArray[np.float64]

MAX_FRONT = 60
"""If a Pareto front has more points than this, only the points that add most hypervolume are used. The computed
improvement is then at least as large as the exact one."""


def expected_improvement(front: FloatArray, reference: FloatArray, mean: FloatArray, std: FloatArray) -> FloatArray:
    """Return how much each candidate is expected to increase the dominated hypervolume.

    Args:
        front: Objectives of the points evaluated so far, `(n, m)`. Dominated points are allowed.
        reference: The reference point, `(m,)`.
        mean: Objectives of the candidates, `(candidates, m)`. Each is a known value or a predicted mean.
        std: Standard deviations of these objectives, `(candidates, m)`. 0 for a known value.

    Returns:
        The expected increases, `(candidates,)`, each at least 0.
    """
    lower, upper = nondominated_boxes(front, reference)
    volumes = np.ones((len(mean), len(lower)))
    for axis in range(len(reference)):
        # many boxes have the same bounds, so the normal integral is evaluated once for each distinct bound
        bounds, place = np.unique(np.concatenate([lower[:, axis], upper[:, axis]]), return_inverse=True)
        below = _expected_gap_below(bounds, mean[:, axis, None], std[:, axis, None])
        # E[length covered of (lower, upper)] = E[max(0, upper - Y)] - E[max(0, lower - Y)]
        volumes *= below[:, place[len(lower) :]] - below[:, place[: len(lower)]]
    return volumes.sum(axis=1)


def nondominated_boxes(front: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Decompose the non-dominated region into disjoint boxes. The region is bounded above by the reference point.

    Args:
        front: Points, `(n, m)`.
        reference: The reference point, `(m,)`.

    Returns:
        Lower and upper corners, `(boxes, m)` each. A lower bound may be -inf.
    """
    # Start with one box, the whole region below the reference point. Each point then cuts the part that it dominates
    # out of the boxes.
    lower = np.full((1, len(reference)), -np.inf)
    upper = np.asarray(reference, dtype=float)[None, :].copy()
    for point in _thinned(np.asarray(front, dtype=float).reshape(-1, len(reference)), upper[0]):
        hit = (upper > point).all(axis=1)
        low, high = lower[hit], upper[hit]
        pieces = [(lower[~hit], upper[~hit])]
        for axis in range(len(reference)):
            # On this axis, the part of each box below the point becomes a new box. The rest of the box is above the
            # point.
            piece_high = high.copy()
            piece_high[:, axis] = point[axis]
            nonempty = low[:, axis] < point[axis]
            pieces.append((low[nonempty], piece_high[nonempty]))
            low = low.copy()
            low[:, axis] = np.maximum(low[:, axis], point[axis])
        # the rest after all axes is dominated by the point, and is dropped
        lower = np.concatenate([part for part, _ in pieces])
        upper = np.concatenate([part for _, part in pieces])
    return lower, upper


def _thinned(points: FloatArray, reference: FloatArray) -> FloatArray:
    """Return the points that bound the region, in ascending order of the first objective."""
    points = points[(points < reference).all(axis=1)]
    if len(points):
        points = points[moocore.is_nondominated(points, keep_weakly=False)]
    if len(points) > MAX_FRONT:
        gains = moocore.hv_contributions(points, ref=reference)
        points = points[np.sort(np.argsort(-gains, kind="stable")[:MAX_FRONT])]
    return points[np.lexsort(points.T[::-1])]


def _expected_gap_below(bounds: FloatArray, mean: FloatArray, std: FloatArray) -> FloatArray:
    """Return E[max(0, bound - Y)] for a Y with a normal distribution or a known value, `(candidates, bounds)`."""
    # for a normal Y: (b - mean) Phi(z) + std phi(z), with z = (b - mean) / std
    gap = bounds[None, :] - mean
    known = std <= 0
    with np.errstate(invalid="ignore"):  # -inf times 0 at the open end of a box, replaced by 0 below
        z = gap / np.where(known, 1.0, std)
        normal = gap * ndtr(z) + std * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    normal = np.where(np.isneginf(gap), 0.0, normal)
    return np.where(known, np.maximum(gap, 0.0), normal)
