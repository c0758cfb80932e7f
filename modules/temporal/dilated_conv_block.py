"""Dilated convolution block (Yue et al., TS2Vec, AAAI 2022, arXiv:2106.10466)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import conv


@register_module(
    name="dilated_conv_block",
    properties=("locality", "sparsity"),
    paper="Yue et al., TS2Vec: Towards Universal Representation of Time Series, AAAI 2022, arXiv:2106.10466",
    space={"dilation": (1, 2, 4)},
    ranges={"kernel": "odd, at least 1", "dilation": "at least 1"},
    dims=(1,),
)
class DilatedConvBlock(nn.Module):
    """Two dilated convolutions, each after a GELU, with a residual connection.

    .. math:: y = x + f_2 \\star_d \\mathrm{gelu}(f_1 \\star_d \\mathrm{gelu}(x))

    Both keep the length, look both ways and have a bias: 2 k C² + 2 C parameters.

    Shapes: `(B, C, L) -> (B, C, L)` for L time steps.

    Args:
        channels: Channels C.
        kernel: Taps k of both convolutions, odd.
        dilation: Distance d between two taps. Block i of TS2Vec has 2^i.
    """

    def __init__(self, channels: int, *, kernel: int = 3, dilation: int = 2) -> None:
        super().__init__()
        self.first = conv(1, channels, channels, kernel, dilation=dilation)
        self.second = conv(1, channels, channels, kernel, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        return x + self.second(F.gelu(self.first(F.gelu(x))))
