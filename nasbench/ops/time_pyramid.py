"""A pyramid over time, and attention along its edges (Liu et al., Pyraformer, ICLR 2022).

The module `pyramidal_attention` and the forecasting backbone `pyraformer` use it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Edges", "PyramidLayer", "TimePyramid", "edges"]

Edges = tuple[Tensor, Tensor]
"""For each of n nodes, the numbers of up to K nodes that it attends to, and which of these exist: two `(n, K)`."""


class TimePyramid(nn.Module):
    """Build the nodes of all levels from a series, fine to coarse (the paper's coarser-scale construction).

    The level above n nodes has ⌊n / c⌋ nodes. If a level has fewer than c nodes, it is padded with zeros to c nodes, so
    that the level above has one node. At the end the nodes of all levels are normalised.
    `nasbench show pyramidal_attention` has the equations.

    Shapes: `(B, L, C)` for L time steps to `(B, T, C)` for the T nodes of all levels. The sizes of the levels are also
    returned.

    Args:
        channels: Number of channels C.
        width: Number of channels of the bottleneck in which the convolutions run.
        scales: Number of children c of a node, for each coarse level, fine to coarse.
    """

    def __init__(self, channels: int, width: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.down = nn.Linear(channels, width)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, scale, stride=scale) for scale in scales)
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in scales)
        self.up = nn.Linear(width, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor) -> tuple[Tensor, list[int]]:
        """`(B, L, C)` to `(B, T, C)` and the sizes of the levels."""
        level = self.down(tokens).transpose(1, 2)
        levels = []
        for conv, bn, scale in zip(self.convs, self.bns, self.scales, strict=True):
            short = max(scale - level.shape[2], 0)
            level = F.elu(bn(conv(F.pad(level, (0, short)))))
            levels.append(level)
        coarse = self.up(torch.cat(levels, dim=2).transpose(1, 2))
        sizes = [tokens.shape[1]] + [part.shape[2] for part in levels]
        return self.norm(torch.cat([tokens, coarse], dim=1)), sizes


class PyramidLayer(nn.Module):
    """A post-norm encoder layer whose attention is limited to the edges of each node.

    The output projection has a bias, but q, k and v have none: 4 C² + 5 C + 2 C F + F parameters.

    Args:
        channels: Number of channels C.
        heads: Number of attention heads. They must divide C.
        width: Width F of the feed-forward layer.
        dropout: Dropout rate after the attention and after the feed-forward layer.
    """

    def __init__(self, channels: int, heads: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.proj = nn.Linear(channels, channels)
        self.ffn = nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, channels))
        self.norms = nn.ModuleList(nn.LayerNorm(channels, eps=1e-6) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, links: Sequence[Edges]) -> Tensor:
        """`(B, T, C)` to `(B, n, C)`: update the first n of T nodes along their edges. `links` has n rows in total."""
        counts = [len(keys) for keys, _ in links]
        own = nodes[:, : sum(counts)]
        q = self.query(own).unflatten(2, (self.heads, -1))
        k, v = self.key(nodes), self.value(nodes)
        parts = [self._attend(part, k, v, *link) for part, link in zip(q.split(counts, dim=1), links, strict=True)]
        own = self.norms[0](own + self.dropout(self.proj(torch.cat(parts, dim=1))))
        return self.norms[1](own + self.dropout(self.ffn(own)))

    @staticmethod
    def _attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, exists: Tensor) -> Tensor:
        """Let n nodes attend to K of all T nodes each. `keys` and `exists` are their edges, `(n, K)`.

        Shapes: q `(B, n, heads, C / heads)`, k and v `(B, T, C)` to `(B, n, C)`.
        """
        # Each query has only a few keys, so sums of products are faster than thousands of tiny matrix products.
        k, v = (t.index_select(1, keys.flatten()).unflatten(1, keys.shape).unflatten(3, q.shape[2:]) for t in (k, v))
        logits = (q.unsqueeze(2) * k).sum(dim=-1) / math.sqrt(q.shape[3])  # (B, n, K, heads)
        weights = logits.masked_fill(~exists.unsqueeze(-1), float("-inf")).softmax(dim=2)
        return (weights.unsqueeze(-1) * v).sum(dim=2).flatten(2)


def edges(
    sizes: Sequence[int], scales: Sequence[int], window: int, device: torch.device | None = None
) -> tuple[Edges, Edges]:
    """Return the nodes that each node attends to, for level 0 and for all other levels together.

    A node attends to `window` nodes of its own level with itself in the middle, to its children and to its parent. The
    last node of a level also gets the children that are left over. The nodes of level 0 have no children, so their rows
    are shorter.

    Args:
        sizes: Number of nodes in each level, fine to coarse. The nodes are numbered through all levels.
        scales: Number of children of a node, for each coarse level.
        window: Number of nodes on its own level that a node attends to.
        device: Device of the tables.

    Returns:
        The edges of level 0 and the edges of the other levels, each as a pair `Edges`.
    """
    # The last node of a level can have more children than the others. All rows are as long as the longest.
    most = max(fine - (coarse - 1) * scale for (fine, coarse), scale in zip(pairwise(sizes), scales, strict=True))
    keys, exists, start = [], [], 0
    for level, size in enumerate(sizes):
        node = torch.arange(size, device=device)[:, None]
        beside = node + torch.arange(-(window // 2), window // 2 + 1, device=device)
        row, there = [beside + start], [(beside >= 0) & (beside < size)]
        if level > 0:
            child = node * scales[level - 1] + torch.arange(most, device=device)
            own = (child < (node + 1) * scales[level - 1]) | (node == size - 1)
            row.append(child + start - sizes[level - 1])
            there.append(own & (child < sizes[level - 1]))
        top = level == len(scales)
        parent = torch.zeros_like(node) if top else (node // scales[level]).clamp(max=sizes[level + 1] - 1)
        row.append(parent + start + size)
        there.append(node < 0 if top else node >= 0)
        exists.append(torch.cat(there, dim=1))
        keys.append(torch.cat(row, dim=1).where(exists[-1], 0))
        start += size
    return (keys[0], exists[0]), (torch.cat(keys[1:]), torch.cat(exists[1:]))
