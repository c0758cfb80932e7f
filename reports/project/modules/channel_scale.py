"""A module of your own. Copy this file, change it, and run `nasbench check modules/channel_scale.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import nasbench


@nasbench.register_module(
    name="channel_scale",
    properties=("globality",),
    paper="Yours",
    space={"squash": ("tanh", "sigmoid")},
    dims=(1, 2),
)
class ChannelScale(nn.Module):
    """Scale each channel by a function of its mean over all positions.

    y = x * 2 * squash(w * mean(x) + b), with one w and one b per channel.

    Shapes: `(B, C, *S) -> (B, C, *S)`.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        squash: "sigmoid" or "tanh".
    """

    def __init__(self, channels: int, *, dims: int = 2, squash: str = "sigmoid") -> None:
        super().__init__()
        shape = (channels,) + (1,) * dims
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.squash = squash

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        mean = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        score = self.weight * mean + self.bias
        return x * 2 * (score.tanh() if self.squash == "tanh" else score.sigmoid())
