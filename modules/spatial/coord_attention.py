"""Coordinate attention (Hou et al., "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import batch_norm, conv


@register_module(
    name="coord_attention",
    properties=("globality",),
    paper="Hou et al., Coordinate Attention for Efficient Mobile Network Design, CVPR 2021, arXiv:2103.02907",
    space={"reduction": (16, 32)},
    ranges={"reduction": "at least 1"},
    dims=(2,),
)
class CoordinateAttention(nn.Module):
    """Two gates, one for each row and one for each column, from maps pooled along the other axis.

    .. math::
        [f_h, f_w] = \\mathrm{hswish}(\\mathrm{BN}(W [\\mathrm{pool}_W x, \\mathrm{pool}_H x])), \\qquad
        y = x \\odot \\sigma(W_h f_h) \\odot \\sigma(W_w f_w)

    The inner width is max(8, C // reduction). All convolutions have biases.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        reduction: Bottleneck ratio.
    """

    def __init__(self, channels: int, *, reduction: int = 32) -> None:
        super().__init__()
        width = max(8, channels // reduction)
        self.reduce = nn.Sequential(conv(2, channels, width), batch_norm(2, width), nn.Hardswish())
        self.rows = conv(2, width, channels)
        self.columns = conv(2, width, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        height, width = x.shape[2:]
        along = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], dim=2)
        rows, columns = self.reduce(along).split([height, width], dim=2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()
