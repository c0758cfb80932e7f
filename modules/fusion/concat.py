"""Concatenation of branches (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import conv
from nasbench.ops.select import check_inputs


@register_module(
    name="concat",
    kind="fusion",
    paper="Szegedy et al., Going Deeper with Convolutions, CVPR 2015, arXiv:1409.4842",
)
class Concat(nn.Module):
    """Concatenate along the channels and mix with a 1x1 convolution back to C.

    .. math:: y = W\\, [x_1, \\dots, x_n] + b

    Shapes: n maps `(B, C, *S) -> (B, C, *S)`.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        inputs: Number of maps n.
    """

    def __init__(self, channels: int, *, dims: int = 2, inputs: int = 2) -> None:
        super().__init__()
        self.mix = conv(dims, check_inputs(inputs) * channels, channels)

    def forward(self, *maps: Tensor) -> Tensor:
        """N maps `(B, C, *S) -> (B, C, *S)`."""
        return self.mix(torch.cat(maps, dim=1))
