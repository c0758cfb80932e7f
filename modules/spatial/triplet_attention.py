"""Triplet attention (Misra et al., "Rotate to Attend: Convolutional Triplet Attention Module", WACV 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import batch_norm, conv


@register_module(
    name="triplet_attention",
    properties=("globality", "locality"),
    paper="Misra et al., Rotate to Attend: Convolutional Triplet Attention Module, WACV 2021, arXiv:2010.03045",
    space={"kernel": (3, 7)},
    ranges={"kernel": "odd, at least 1"},
    dims=(2,),
)
class TripletAttention(nn.Module):
    """The mean of three gated copies, whose gates each see two of the axes C, H, W and pool the third.

    .. math:: y = \\frac{1}{3} \\sum_{a \\in \\{C, H, W\\}} x \\odot
        \\sigma(\\mathrm{BN}(\\mathrm{conv}_{k \\times k}([\\max_a x, \\mathrm{mean}_a x])))

    3 (2k² + 2) parameters for any C, 300 at k = 7.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C. The module has no width of its own.
        kernel: Side of the convolutions, odd.
    """

    def __init__(self, channels: int, *, kernel: int = 7) -> None:
        super().__init__()
        self.across_height = _AxisGate(kernel)
        self.across_width = _AxisGate(kernel)
        self.across_channels = _AxisGate(kernel)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        by_height = self.across_height(x.transpose(1, 2)).transpose(1, 2)
        by_width = self.across_width(x.transpose(1, 3)).transpose(1, 3)
        return (by_height + by_width + self.across_channels(x)) / 3


class _AxisGate(nn.Module):
    """Gate a tensor of any sides P, Q and R by its max and mean over axis 1: `(B, P, Q, R) -> (B, P, Q, R)`."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(conv(2, 2, 1, kernel, bias=False), batch_norm(2, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * self.gate(pooled)
