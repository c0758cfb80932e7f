"""Depthwise separable convolution (Howard et al., "MobileNets", 2017, arXiv:1704.04861)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import conv


@register_module(
    name="depthwise_separable",
    properties=("locality",),
    paper="Howard et al., MobileNets, 2017, arXiv:1704.04861",
    space={"kernel": (3, 5, 7)},
    ranges={"kernel": "odd, at least 1"},
)
class DepthwiseSeparable(nn.Module):
    """One filter per channel over space, then a 1x1 convolution over channels.

    .. math:: y = W_{1 \\times 1}\\, \\mathrm{dw}_{k \\times k}(x)

    Both are linear and have no bias: `k² C + C²` parameters, where a full convolution has `k² C²`. With kernel 1 the
    depthwise stage remains as a scale per channel.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        kernel: Side k of the depthwise kernel, odd.
    """

    def __init__(self, channels: int, *, dims: int = 2, kernel: int = 3) -> None:
        super().__init__()
        self.depthwise = conv(dims, channels, channels, kernel, groups=channels, bias=False)
        self.pointwise = conv(dims, channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        return self.pointwise(self.depthwise(x))
