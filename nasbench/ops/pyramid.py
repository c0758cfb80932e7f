"""Layers of necks and heads over pyramids, which are lists of maps `(B, C_i, H_i, W_i)`, fine to coarse."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.errors import InputError
from nasbench.ops.nd import conv

__all__ = ["SimplePyramid", "TopDown", "check_levels", "resize"]


def resize(x: Tensor, size: torch.Size) -> Tensor:
    """`(B, C, h, w) -> (B, C, *size)` from nearest positions. A map that has this size is returned unchanged."""
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="nearest")


def check_levels(maps: Sequence[Tensor], levels: int) -> None:
    """Check that a pyramid has the number of levels for which its neck or head was built.

    Raises:
        InputError: If the number of levels differs.
    """
    if len(maps) != levels:
        raise InputError(f"this was built for {levels} levels, fine to coarse; got {len(maps)} maps")


class TopDown(nn.Module):
    """Lateral 1x1 convolutions, a top-down path, 3x3 convolutions (Lin et al., CVPR 2017, arXiv:1612.03144).

    .. math:: M_n = L_n(C_n),\\quad M_i = L_i(C_i) + \\mathrm{nearest}(M_{i+1}),\\quad
              P_i = \\mathrm{conv}_{3 \\times 3}(M_i)

    Shapes: a list of `(B, C_i, H_i, W_i)`, fine to coarse, to a list of `(B, width, H_i, W_i)`. The coarser
    map is resized to the size of the finer one. The ratio of the two sizes need not be 2.

    Args:
        channels: Number of channels C_i of each level, fine to coarse.
        width: Number of channels of each level of the result.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv(2, c, width) for c in channels)
        self.smooth = nn.ModuleList(conv(2, width, width, 3) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """A list of `(B, C_i, H_i, W_i)` to a list of `(B, width, H_i, W_i)`."""
        check_levels(maps, len(self.lateral))
        merged = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for i in range(len(merged) - 2, -1, -1):  # from coarse to fine, so that each level sums all coarser ones
            merged[i] = merged[i] + resize(merged[i + 1], merged[i].shape[2:])
        return [smooth(x) for smooth, x in zip(self.smooth, merged, strict=True)]


class SimplePyramid(nn.Module):
    """Make maps of several strides from one map.

    Transposed convolutions enlarge the map, and max pooling halves it (Li et al., "Exploring Plain Vision Transformer
    Backbones for Object Detection", ECCV 2022, arXiv:2203.16527, the simple feature pyramid, without its convolutions
    to a common width, which are the neck's or the head's).

    Args:
        channels: Number of channels C of the map, a multiple of 4.
        octaves: For each level, how often its sides are doubled (2, 1), or halved (-1, -2).
    """

    def __init__(self, channels: int, octaves: Sequence[int]) -> None:
        super().__init__()
        self.map_channels, self.octaves = channels, tuple(octaves)
        self.channels = [channels >> max(0, octave) for octave in octaves]
        self.levels = nn.ModuleList(_rescaled(channels, octave) for octave in octaves)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The last of a list of maps, `(B, C, H, W)`, to a list of maps, fine to coarse."""
        return [level(maps[-1]) for level in self.levels]


def _rescaled(channels: int, octave: int) -> nn.Module:
    half, quarter = channels // 2, channels // 4
    if octave == 2:
        return nn.Sequential(
            nn.ConvTranspose2d(channels, half, 2, 2), nn.GroupNorm(1, half), nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, 2),
        )  # fmt: skip
    if octave == 1:
        return nn.ConvTranspose2d(channels, half, 2, 2)
    return nn.Sequential(*[nn.MaxPool2d(2) for _ in range(-octave)])
