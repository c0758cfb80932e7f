"""CBAM (Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, arXiv:1807.06521)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import batch_norm, conv, global_avg_pool, global_max_pool, reduced


@register_module(
    name="cbam",
    properties=("globality", "locality"),
    paper="Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018, arXiv:1807.06521",
    space={"reduction": (4, 8, 16), "kernel": (3, 7)},
    ranges={"reduction": "at least 1", "kernel": "odd, at least 1"},
    dims=(2,),
)
class CBAM(nn.Module):
    """A channel gate from average- and max-pooled descriptors, then a spatial gate from the channels' max and mean.

    .. math::
        x' = x \\odot \\sigma(\\mathrm{MLP}(\\mathrm{GAP}(x)) + \\mathrm{MLP}(\\mathrm{GMP}(x))), \\qquad
        y = x' \\odot \\sigma(\\mathrm{BN}(\\mathrm{conv}_{k \\times k}([\\max_c x', \\mathrm{mean}_c x'])))

    The MLP is shared and has biases. The convolution has none. There is no residual.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        reduction: Bottleneck ratio of the MLP.
        kernel: Side of the spatial convolution, odd.
    """

    def __init__(self, channels: int, *, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__()
        width = reduced(channels, reduction)
        self.mlp = nn.Sequential(conv(2, channels, width), nn.ReLU(), conv(2, width, channels))
        self.spatial = nn.Sequential(conv(2, 2, 1, kernel, bias=False), batch_norm(2, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        x = x * (self.mlp(global_avg_pool(x)) + self.mlp(global_max_pool(x))).sigmoid()
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * self.spatial(pooled)
