"""Weights of branches, from a softmax across the branches.

The fusions `select` and `interact` and the module `sk` use them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.ops.nd import batch_norm, conv, global_avg_pool

__all__ = ["BranchSelect", "check_inputs", "convex_sum"]


def check_inputs(inputs: int) -> int:
    """Check the number of maps that a fusion joins, and return it.

    Raises:
        UnsupportedError: If `inputs` is less than 2.
    """
    if inputs < 2:
        raise UnsupportedError(f"a fusion joins at least 2 maps, got inputs={inputs}")
    return inputs


def convex_sum(maps: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return `Σ w_i x_i` for weights that sum to one, computed as `x_0 + Σ w_i (x_i - x_0)`.

    In this form, equal maps are returned bit for bit, with any weights. So a fusion of branches that start as
    identities also starts as an identity. The rounding of `Σ w_i x_i` would prevent this.

    Args:
        maps: n maps `(B, C, *S)`.
        weights: `(n, B, C, *S)`, or 1 in place of a side of S. They sum to one over n.
    """
    first = maps[0]
    total = first
    for x, weight in zip(maps[1:], weights[1:], strict=True):
        total = total + weight * (x - first)
    return total


class BranchSelect(nn.Module):
    """Weights of the branches for each channel, from the pooled sum of all branches (SK, arXiv:1903.06586, eq. 3-5).

    .. math:: z = \\mathrm{relu}(\\mathrm{BN}(W\\, \\mathrm{GAP}(\\textstyle\\sum_i x_i))),\\quad
              w_i = \\mathrm{softmax}_i(A_i z)

    Shapes: n maps `(B, C, *S) -> (n, B, C, 1, ...)`. Training needs two or more items in a batch, because `z` has one
    position, so that it is normalised over the batch only.

    Args:
        channels: Number of channels C.
        branches: Number of maps n.
        dims: Number of spatial dimensions, 1 or 2.
        reduction: Ratio r. z has max(C // r, 32) channels.
    """

    def __init__(self, channels: int, branches: int, *, dims: int, reduction: int) -> None:
        super().__init__()
        width = max(channels // reduction, 32)  # 32 is the paper's L
        self.reduce = conv(dims, channels, width, bias=False)
        self.norm = batch_norm(dims, width)
        self.expand = nn.ModuleList(conv(dims, width, channels, bias=False) for _ in range(branches))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the weights of n maps `(B, C, *S)`: `(n, B, C, 1, ...)`."""
        pooled = global_avg_pool(sum(maps[1:], maps[0]))
        z = self.norm(self.reduce(pooled)).relu()
        logits = torch.stack([branch(z) for branch in self.expand])
        return logits.softmax(dim=0).to(maps[0].dtype)  # under autocast a softmax returns float32
