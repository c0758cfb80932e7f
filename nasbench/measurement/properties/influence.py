"""The influence of each input position of a map on each output position: norms of blocks of the Jacobian."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["cells", "influence_rows"]

_ROW_ELEMENTS = 2**25
"""A batch has at most this number / N² cotangents, for an output of N positions.

A module may hold N × N weights for each of them."""

_MOST_ROWS = 64
"""Largest number of cotangents in a batch. With N × N weights for each, more of them do not fit into a core's cache."""

Fold = Callable[[Tensor], Tensor]


def influence_rows(
    y: Tensor, x: Tensor, positions: Sequence[int], *, probes: int | None, fold: Fold | None = None
) -> Tensor:
    """Return ‖∂y_u/∂x_v‖, the Frobenius norm over channels, for chosen output positions u and every v.

    The rows are computed in reverse mode. One pass processes a batch of cotangents, or a single one if an operator has
    no batching rule. If there is one cotangent for each channel, a row is exact. With random cotangents it is an
    estimate, because the mean square of `wᵀ J_uv` over standard normal `w` is the squared norm.

    Args:
        y: `(B, C, *S)`, computed from `x`. Only its first item is used.
        x: The tensor from which `y` was computed. It must require a gradient.
        positions: Flat indices u into S.
        probes: Number of random cotangents for each position, drawn from torch's generator. None means one cotangent
            for each channel instead.
        fold: Function that turns the squared gradients of R cotangents, `(R, *x.shape)`, into one value for each of V
            positions or cells, `(R, V)`. None means that the squares are summed over batch and channels.

    Returns:
        The norms `(len(positions), V)` in float64.
    """
    channels, count = y.shape[1], y[0, 0].numel()
    weights = torch.eye(channels) if probes is None else torch.randn(len(positions) * probes, channels)
    each = channels if probes is None else probes
    owners = torch.arange(len(positions)).repeat_interleave(each)
    rows: list[Tensor] = []
    chunk = max(1, min(_MOST_ROWS, _ROW_ELEMENTS // count**2))
    for start in range(0, len(owners), chunk):
        mine = owners[start : start + chunk]
        # Exact rows use the same identity matrix at each position. Random rows have different weights at each position.
        w = weights[torch.arange(start, start + len(mine)) % len(weights)].to(y)
        cotangents = y.new_zeros(len(mine), *y.shape).flatten(3)
        cotangents[torch.arange(len(mine)), 0, :, torch.tensor(positions)[mine]] = w
        squares = torch.cat(list(_gradients(y, x, cotangents.unflatten(3, y.shape[2:])))).double().square()
        rows.append((fold or _fold)(squares))
    summed = rows[0].new_zeros(len(positions), rows[0].shape[1]).index_add_(0, owners.to(y.device), torch.cat(rows))
    return (summed if probes is None else summed / probes).sqrt()


def cells(source: Sequence[int], target: Sequence[int]) -> Tensor:
    """Return, for each position of a fine grid, the flat index of the cell of a coarse grid that contains it.

    Args:
        source: Size of the finer grid.
        target: Size of the coarser grid, with as many dimensions.
    """
    flat = torch.zeros(tuple(source), dtype=torch.long)
    for axis, (fine, coarse) in enumerate(zip(source, target, strict=True)):
        index = torch.arange(fine) * coarse // fine
        flat = flat * coarse + index.reshape([-1 if a == axis else 1 for a in range(len(source))])
    return flat.flatten()


def _fold(squares: Tensor) -> Tensor:
    return squares.flatten(3).sum((1, 2))


def _gradients(y: Tensor, x: Tensor, cotangents: Tensor) -> Iterator[Tensor]:
    """Yield the gradients of `y` for R cotangents, `(R, *x.shape)` in total, or zeros if `y` does not depend on `x`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns if it has to loop over an operator without a batching rule
        try:
            (batched,) = torch.autograd.grad(
                y, x, cotangents, is_grads_batched=True, retain_graph=True, allow_unused=True
            )
            gradients = [batched]
        except (RuntimeError, NotImplementedError):
            one_by_one = (torch.autograd.grad(y, x, c, retain_graph=True, allow_unused=True)[0] for c in cotangents)
            gradients = [None if g is None else g.unsqueeze(0) for g in one_by_one]
    for gradient in gradients:
        yield x.new_zeros(len(cotangents) // len(gradients), *x.shape) if gradient is None else gradient
