"""Efficient channel attention (Wang et al., "ECA-Net", CVPR 2020, arXiv:1910.03151)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import global_avg_pool


@register_module(
    name="eca",
    properties=("globality",),
    paper="Wang et al., ECA-Net: Efficient Channel Attention for Deep CNNs, CVPR 2020, arXiv:1910.03151",
    space={"kernel": (3, 5, 7)},
    ranges={"kernel": "odd, at least 1"},
    dims=(1, 2),
)
class EfficientChannelAttention(nn.Module):
    """Scale each channel by a gate computed from its neighbours among the pooled channels.

    .. math:: y = x \\odot \\sigma(\\mathrm{conv1d}_k(\\mathrm{GAP}(x)))

    The convolution runs across channels, without bias: k parameters. By default k is (log2 C + 1) / 2
    rounded down, then up to odd, and at least 3: 3 for C from 8 to 64, 5 to 1024, 7 for 2048.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2. The module is the same for both.
        kernel: Number k of channels that decide one gate, odd. None means the rule above.
    """

    def __init__(self, channels: int, *, dims: int = 2, kernel: int | None = None) -> None:
        super().__init__()
        if kernel is None:
            kernel = max(3, int((math.log2(channels) + 1) / 2) | 1)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        pooled = global_avg_pool(x)
        gate = self.conv(pooled.flatten(1).unsqueeze(1)).sigmoid()
        return x * gate.view_as(pooled)
