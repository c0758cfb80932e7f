"""Gate from local max and average pooling in parallel (after CBAM's pair of poolings, arXiv:1807.06521)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import avg_pool, conv, max_pool


@register_module(
    name="dual_pool",
    properties=("locality",),
    paper="after Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018, arXiv:1807.06521",
    space={"kernel": (3, 5)},
    ranges={"kernel": "odd, at least 1"},
)
class DualPool(nn.Module):
    """Scale each position by a gate that sees the strongest and the mean response of its neighbourhood.

    .. math:: y = x \\odot \\sigma(W\\, [\\mathrm{max}_k(x), \\mathrm{avg}_k(x)] + b)

    Max pooling keeps the strongest response and average pooling the rest. Both have stride 1. The average counts the
    zeros beyond the border, the maximum does not.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        kernel: Side k of the neighbourhood, odd.
    """

    def __init__(self, channels: int, *, dims: int = 2, kernel: int = 3) -> None:
        super().__init__()
        self.strongest = max_pool(dims, kernel)
        self.mean = avg_pool(dims, kernel)
        self.gate = conv(dims, 2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        pooled = torch.cat([self.strongest(x), self.mean(x)], dim=1)
        return x * self.gate(pooled).sigmoid()
