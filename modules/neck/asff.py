"""Adaptively spatial feature fusion (Liu et al., "Learning Spatial Fusion", 2019, arXiv:1911.09516)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import batch_norm, conv
from nasbench.ops.pyramid import check_levels, resize

_RATING = 16  # channels from which the weights are computed, as in the paper's code


@register_module(
    name="asff",
    kind="neck",
    dims=2,
    properties=("locality", "multiscale"),
    paper="Liu et al., Learning Spatial Fusion for Single-Shot Object Detection, 2019, arXiv:1911.09516",
)
class AdaptiveSpatialFusion(nn.Module):
    """Replace every level by a sum of all levels, with weights for each position.

    .. math:: x_{j \\to i} = \\mathrm{resize}(x_j),\\quad
              \\alpha = \\mathrm{softmax}_j(W\\, [\\rho_j(x_{j \\to i})]_j + b),\\quad
              y_i = \\mathrm{conv}_{3 \\times 3}(\\textstyle\\sum_j \\alpha_j \\odot x_{j \\to i})

    A coarser level gets C_i channels by a 1x1 convolution (omitted if it has C_i already) and is enlarged by the
    nearest position. A finer level is halved by 3x3 max pooling, but its last halving is a 3x3 convolution of stride 2.
    ρ is a 1x1 convolution to 16 channels. BN and LeakyReLU(0.1) follow every convolution except W, the last one of the
    weights, which has a bias instead.

    Shapes: a list of `(B, C_i, H_i, W_i)`, fine to coarse, to a list of the same shapes. Levels are assumed to differ
    by a factor of two. Other sizes are reached by the nearest position.

    Args:
        channels: C_i of every level, fine to coarse.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_Level(channels, level) for level in range(len(channels)))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """A list of `(B, C_i, H_i, W_i)` to a list of the same shapes."""
        check_levels(maps, len(self.levels))
        return [level(maps) for level in self.levels]


class _Level(nn.Module):
    """One level of the result: all levels resized to it, weighed and summed."""

    def __init__(self, channels: Sequence[int], level: int) -> None:
        super().__init__()
        width, self.level = channels[level], level
        self.resize = nn.ModuleList(_resize(c, width, level - j) for j, c in enumerate(channels))
        self.rate = nn.ModuleList(_conv_block(width, _RATING, 1) for _ in channels)
        self.weigh = conv(2, _RATING * len(channels), len(channels))
        self.expand = _conv_block(width, width, 3)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        size = maps[self.level].shape[2:]
        resized = [resize(layer(x), size) for layer, x in zip(self.resize, maps, strict=True)]
        ratings = torch.cat([rate(x) for rate, x in zip(self.rate, resized, strict=True)], dim=1)
        weights = self.weigh(ratings).softmax(dim=1).split(1, dim=1)
        return self.expand(sum(w * x for w, x in zip(weights, resized, strict=True)))


def _resize(channels: int, width: int, steps: int) -> nn.Module:
    """Return layers that bring a map to `width` channels and halve it `steps` times. `resize` does any enlarging."""
    if steps <= 0:
        return nn.Identity() if channels == width else _conv_block(channels, width, 1)
    pools = [nn.MaxPool2d(3, stride=2, padding=1) for _ in range(steps - 1)]
    return nn.Sequential(*pools, _conv_block(channels, width, 3, stride=2))


def _conv_block(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        conv(2, channels, width, kernel, stride=stride, bias=False), batch_norm(2, width), nn.LeakyReLU(0.1)
    )
