"""Deformable attention over a pyramid (Zhu et al., "Deformable DETR", ICLR 2021, arXiv:2010.04159)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.ops.attention import choose_heads, split_heads
from nasbench.ops.nd import at_least_float32, from_tokens

__all__ = ["DeformableLayers", "PyramidDeformableAttention"]


def _ring_of_offsets(heads: int, points: int) -> Tensor:
    """Return the first offsets (x, y) in pixels, `(heads, points, 2)`.

    The points of head h lie in the direction 2π h / heads, at the distances 1 ... points, where the distance is that of
    the larger coordinate. So the heads form rings.
    """
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    direction = direction / direction.abs().amax(dim=-1, keepdim=True)
    return direction[:, None] * torch.arange(1, points + 1)[:, None]


class DeformableLayers(nn.Module):
    """The layers of deformable attention, with their first weights.

    Args:
        channels: Number of channels C.
        heads: Number of attention heads. They must divide C.
        levels: Number of levels.
        points: Number of places of each level and head.
    """

    def __init__(self, channels: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(channels, heads * levels * points * 2)
        self.weights = nn.Linear(channels, heads * levels * points)
        self.value = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)
        self.reset()

    def reset(self) -> None:
        """Draw the first weights. Every level gets the same ring of offsets, and equal attention."""
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
        for layer in (self.value, self.proj):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.weights, self.value, self.proj):
            nn.init.zeros_(layer.bias)
        ring = _ring_of_offsets(self.heads, self.points)[:, None].expand(-1, self.levels, -1, -1)
        with torch.no_grad():
            self.offsets.bias.copy_(ring.flatten())


class PyramidDeformableAttention(DeformableLayers):
    """Attention of each query to K places of each level and head, which it chooses itself.

    .. math:: y_q = W_o \\Big[ \\sum_{l,k} A_{hqlk}\\; V_{hl}(r_q + \\Delta_{hqlk} / (W_l, H_l)) \\Big]_{h}, \\quad
        \\Delta = W_\\Delta z_q, \\; A = \\mathrm{softmax}_{l,k} (W_A z_q), \\; V = W_v X

    This is equation 3 of the paper. r is the reference of the query, in units of the map. Levels are sampled bilinearly
    and are zero outside.

    Args:
        channels: Number of channels C.
        heads: Number of attention heads. They must divide C.
        levels: Number of levels L.
        points: Number of places K of each level and head.
    """

    def __init__(self, channels: int, heads: int, levels: int, points: int) -> None:
        super().__init__(channels, choose_heads(channels, heads), levels, points)

    def forward(self, queries: Tensor, references: Tensor, memory: Tensor, sizes: Sequence[Sequence[int]]) -> Tensor:
        """Return `(B, N, C)`.

        Args:
            queries: `(B, N, C)`.
            references: (x, y) of each query in units of the map, from 0 to 1: `(B, N, 2)`.
            memory: The positions of all levels, one level after the other, `(B, M, C)`.
            sizes: Height and width of each level.
        """
        shape = (self.heads, self.levels, self.points)
        weights = self.weights(queries).unflatten(-1, (self.heads, -1)).softmax(-1)
        weights = weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)  # (B heads, 1, N, L K)
        offsets = at_least_float32(self.offsets(queries)).unflatten(-1, (*shape, 2))
        offsets = offsets.transpose(1, 2).flatten(0, 1)  # (B heads, N, L, K, 2), in pixels
        centres = references.repeat_interleave(self.heads, dim=0).unsqueeze(2)  # (B heads, N, 1, 2)
        values = split_heads(self.value(memory), self.heads).flatten(0, 1)  # (B heads, M, C / heads)
        sampled = []
        for level, (size, value) in enumerate(zip(sizes, values.split([h * w for h, w in sizes], 1), strict=True)):
            places = centres + offsets[:, :, level] / offsets.new_tensor([size[1], size[0]])
            grid = (2 * places - 1).to(offsets.dtype)  # -1 to 1 from edge to edge
            sampled.append(F.grid_sample(from_tokens(value, tuple(size)).to(grid.dtype), grid, align_corners=False))
        mixed = (torch.cat(sampled, dim=-1).to(weights.dtype) * weights).sum(-1)  # (B heads, C / heads, N)
        return self.proj(mixed.unflatten(0, (-1, self.heads)).flatten(1, 2).transpose(1, 2))
