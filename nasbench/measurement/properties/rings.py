"""Locality, globality, sparsity and multi-scale, computed from rows of influence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NEGLIGIBLE", "POINTWISE", "SPATIAL", "RowFigures", "row_figures"]

NEGLIGIBLE = 0.01
"""A position with less than this share of the row's largest off-self influence is negligible."""

POINTWISE = 0.01
"""A row whose off-self influence is less than this share of its whole influence does not mix."""

SPATIAL = ("locality", "globality", "sparsity", "multiscale")

_EVEN = 1e-9  # a uniform map this near to even rings leaves nothing to measure


@dataclass(frozen=True)
class RowFigures:
    """Property values of single output positions u, in R rows. NaN where a value is not defined.

    Attributes:
        figures: `(R, 4)`, the values of the properties in `SPATIAL`.
        self_influence: `(R,)`, the influence I_u(u) of a position on itself.
        rings: `(R, K)`, share of the off-self influence in each octave ring. Ring r holds the distances d with
            ⌊log2 d⌋ = r.
        even: `(R, K)`, the same for a uniform map.
    """

    figures: Tensor
    self_influence: Tensor
    rings: Tensor
    even: Tensor


def row_figures(rows: Tensor, positions: Sequence[int], size: Sequence[int]) -> RowFigures:
    """Return the property values of rows of influence.

    Args:
        rows: `(R, N)`, the influence of N positions of a grid. Not negative.
        positions: Output position u of each row, as a flat index.
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
    # The box of the reach includes u itself, but the values within the reach leave u out.
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
    """Return which positions lie in the smallest box around the positions in `kept`, `(R, N)`."""
    within = torch.ones_like(kept)
    for axis in place.T:
        low = torch.where(kept, axis, axis.max() + 1).amin(1, keepdim=True)
        high = torch.where(kept, axis, -1).amax(1, keepdim=True)
        within &= (axis >= low) & (axis <= high)
    return within


def _per_ring(values: Tensor, ring: Tensor) -> Tensor:
    """Sum `(R, N)` over each ring of `(R, N, K)`."""
    return (values.unsqueeze(-1) * ring).sum(1)


def _multiscale(off: Tensor, inside: Tensor, ring: Tensor) -> Tensor:
    """Return how evenly influence is spread over the rings of the reach, `(R,)`.

    The value is max(0, (H − H₀)/(log R − H₀)). H is the entropy of the influence over the R rings of the reach. H₀ is
    that of a uniform map over the same reach, so a uniform map has the value 0.
    """
    counts = _per_ring(inside.double(), ring)
    even = (counts > 0).sum(1).double().log()
    uniform, entropy = _entropy(counts), _entropy(_per_ring(off, ring))
    room = even - uniform
    return torch.where(room > _EVEN, ((entropy - uniform) / room).clamp(min=0), torch.nan)


def _entropy(weights: Tensor) -> Tensor:
    """Return the entropy, in nats, of `(R, K)` weights that need not sum to one."""
    p = weights / weights.sum(1, keepdim=True)
    return -torch.xlogy(p, p).sum(1)
