"""Locality, globality, sparsity and multi-scale, computed from rows of influence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NEGLIGIBLE", "POINTWISE", "SPATIAL", "RowFigures", "row_figures"]

NEGLIGIBLE = 0.01
"""A position is negligible if it has less than this share of the largest off-self influence in its row."""

POINTWISE = 0.01
"""A row mixes no positions if its off-self influence is less than this share of its whole influence.

Its property values are then undefined."""

SPATIAL = ("locality", "globality", "sparsity", "multiscale")

_EVEN = 1e-9  # a uniform map counts as even over the rings if log(M) − H₀ (`_multiscale`) is at most this


@dataclass(frozen=True)
class RowFigures:
    """Property values of single output positions u, one row for each of R positions. Undefined values are NaN.

    Attributes:
        figures: `(R, 4)`, the values of the properties in `SPATIAL`.
        self_influence: `(R,)`, the influence I_u(u) of a position on itself.
        rings: `(R, K)`, share of the off-self influence in each of K octave rings. Ring r holds the distances d with
            ⌊log2 d⌋ = r.
        even: `(R, K)`, the same shares for a uniform map.
    """

    figures: Tensor
    self_influence: Tensor
    rings: Tensor
    even: Tensor


def row_figures(rows: Tensor, positions: Sequence[int], size: Sequence[int]) -> RowFigures:
    """Return the property values of rows of influence.

    Args:
        rows: `(R, N)`. Each of R rows contains the influence of the N positions of a grid on one position. No value is
            negative, and a row need not sum to 1.
        positions: For each row, its output position u, as a flat index.
        size: Spatial size of the grid.
    """
    place = torch.cartesian_prod(*(torch.arange(s) for s in size)).reshape(-1, len(size)).to(rows.device)
    here = place[list(positions)]
    distance = (place - here[:, None]).abs().amax(-1)  # (R, N), Chebyshev
    other = distance > 0
    off = rows * other
    total, whole = off.sum(1, keepdim=True), rows.sum(1, keepdim=True)
    share = off / total
    far, near = distance.double(), distance == 1
    even_distance = far.sum(1) / other.sum(1)
    seen = (off >= NEGLIGIBLE * off.amax(1, keepdim=True)) & other
    # u itself is used to find the box of the reach, but it is left out of the values within the reach.
    inside = _box(seen | ~other, place) & other
    octave = torch.where(other, distance.double().log2().floor().long(), -1)
    ring = torch.stack([octave == r for r in range(int(octave.max()) + 1)], dim=-1)  # (R, N, K)
    figures = torch.stack(
        [
            (share * near).sum(1),
            (share * far).sum(1) / even_distance,
            (inside & ~seen).sum(1) / inside.sum(1),
            _multiscale(off * inside, inside, ring),
        ],
        dim=1,
    )
    # A row without any influence passes this test too (0 >= 0), so it is excluded by `whole > 0` below.
    mixes = total >= POINTWISE * whole
    return RowFigures(
        figures=torch.where(mixes & (whole > 0), figures, torch.nan),
        self_influence=(1 - total / whole).squeeze(1),
        rings=_per_ring(share, ring),
        even=_per_ring(other / other.sum(1, keepdim=True), ring),
    )


def _box(kept: Tensor, place: Tensor) -> Tensor:
    """For each row, return which positions lie in the smallest box around the True ones: `(R, N) -> (R, N)`."""
    within = torch.ones_like(kept)
    for axis in place.T:
        low = torch.where(kept, axis, axis.max() + 1).amin(1, keepdim=True)
        high = torch.where(kept, axis, -1).amax(1, keepdim=True)
        within &= (axis >= low) & (axis <= high)
    return within


def _per_ring(values: Tensor, ring: Tensor) -> Tensor:
    """Sum the values of R rows, `(R, N)`, over each of K rings, `(R, N, K)`: `(R, K)`."""
    return (values.unsqueeze(-1) * ring).sum(1)


def _multiscale(off: Tensor, inside: Tensor, ring: Tensor) -> Tensor:
    """Return how evenly influence is spread over the rings of the reach, for each of R rows, `(R,)`.

    The value is max(0, (H − H₀)/(log M − H₀)). M is the number of rings that have positions in the reach. H is the
    entropy of the influence over these rings, and H₀ that of a uniform map over the same reach. So a uniform map has
    the value 0. NaN if log M is H₀.
    """
    counts = _per_ring(inside.double(), ring)
    even = (counts > 0).sum(1).double().log()
    uniform, entropy = _entropy(counts), _entropy(_per_ring(off, ring))
    room = even - uniform
    return torch.where(room > _EVEN, ((entropy - uniform) / room).clamp(min=0), torch.nan)


def _entropy(weights: Tensor) -> Tensor:
    """Return the entropy, in nats, of each of R rows of K weights, `(R, K)`. The weights need not sum to one."""
    p = weights / weights.sum(1, keepdim=True)
    return -torch.xlogy(p, p).sum(1)
