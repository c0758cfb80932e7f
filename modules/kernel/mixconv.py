"""Mixed depthwise convolution (Tan and Le, "MixConv", BMVC 2019, arXiv:1907.09595)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import conv


@register_module(
    name="mixconv",
    properties=("locality", "multiscale"),
    paper="Tan and Le, MixConv: Mixed Depthwise Convolutional Kernels, BMVC 2019, arXiv:1907.09595",
    space={"kernels": ((3, 5), (3, 5, 7), (3, 5, 7, 9))},
    ranges={"kernels": "1 or more values, odd, at least 1"},
)
class MixConv(nn.Module):
    """Depthwise convolution whose channels are split into groups with kernels of different sizes.

    .. math:: y = [\\mathrm{dw}_{k_1}(x_1), \\dots, \\mathrm{dw}_{k_g}(x_g)],\\quad x = [x_1, \\dots, x_g]

    The g groups have C // g channels each, and the remainder goes to the first. The convolutions have no bias.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        kernels: Kernel side of each group, odd. If there are fewer channels than kernels, the first takes all channels.
    """

    def __init__(self, channels: int, *, dims: int = 2, kernels: Sequence[int] = (3, 5, 7)) -> None:
        super().__init__()
        share, rest = divmod(channels, len(kernels))
        widths = [share + rest, *[share] * (len(kernels) - 1)]
        self.widths = [width for width in widths if width]
        self.branches = nn.ModuleList(
            conv(dims, width, width, kernel, groups=width, bias=False)
            for width, kernel in zip(self.widths, kernels, strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        parts = x.split(self.widths, dim=1)
        return torch.cat([branch(part) for branch, part in zip(self.branches, parts, strict=True)], dim=1)
