"""Pyramidal attention (Liu et al., Pyraformer, ICLR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import from_tokens, reduced, to_tokens
from nasbench.registry import register_module


@register_module(
    name="pyramidal_attention",
    properties=("locality", "multiscale", "sparsity"),
    paper="Liu et al., Pyraformer: Low-Complexity Pyramidal Attention for Long-Range Time Series Modeling and "
    "Forecasting, ICLR 2022",
    space={"scales": ((4,), (4, 4), (4, 4, 4))},
    dims=(1,),
)
class PyramidalAttention(nn.Module):
    """Attention on a pyramid of time: every node attends to its neighbours, its children and its parent.

    Level 0 is the series; each coarser level summarises c nodes of the one below by a convolution of stride c, behind
    a bottleneck of C / reduction channels (the paper's coarser-scale construction):

    .. math:: p_0 = W_d x,\\quad p_l = \\mathrm{elu}(\\mathrm{BN}(f_l \\star_{c_l} p_{l-1})),\\qquad
              T = \\mathrm{LN}([x, W_u [p_1, p_2, \\dots]])

    Then encoder layers, post-norm, whose attention is limited to the edges of the pyramid:

    .. math:: T' = \\mathrm{LN}(T + W_o\\, \\mathrm{MHA}_{\\mathrm{edges}}(T)),\\qquad
              T'' = \\mathrm{LN}(T' + \\mathrm{FFN}(T'))

    Level 0 is the result, and a level comes down by one level a layer: there are as many layers as coarse levels
    (`scales=(4,)` is one encoder layer), and each computes only the nodes that the layers above it still read. Keys
    and values of the edges are gathered, so memory is linear in L. A level has ⌊n / c⌋ nodes, the last of them takes
    the children that are left over, and a level of fewer than c nodes is padded with zeros to one parent.

    Shapes: `(B, C, L) -> (B, C, L)`.

    Args:
        channels: Channels C.
        scales: Children c of a node of each coarse level, fine to coarse.
        window: Nodes of its own level that a node attends to, itself in the middle: odd.
        reduction: C / (channels of the bottleneck).
        expansion: (Width of the FFN) / C.
        heads: Attention heads; by default the largest count that leaves at least 16 channels a head, at most 8.

    Raises:
        UnsupportedError: If `heads` does not divide C, there is no scale or one is below 2, or `window` is not odd.
    """

    def __init__(
        self,
        channels: int,
        *,
        scales: Sequence[int] = (4, 4, 4),
        window: int = 3,
        reduction: int = 4,
        expansion: int = 1,
        heads: int | None = None,
    ) -> None:
        super().__init__()
        heads = choose_heads(channels, heads)
        if not scales or min(scales) < 2 or window < 1 or window % 2 == 0:
            raise UnsupportedError(
                f"scales is {scales!r} and window {window}; give at least one scale, none below 2, and an odd window"
            )
        self.scales, self.window = tuple(scales), window
        self.pyramid = _Pyramid(channels, reduced(channels, reduction), scales)
        self.layers = nn.ModuleList(_Layer(channels, heads, expansion * channels) for _ in scales)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        nodes, sizes = self.pyramid(x)
        keys, exists = _edges(sizes, self.scales, self.window, x.device)
        for layer in self.layers:
            sizes = sizes[:-1]
            count = sum(sizes)
            nodes = layer(nodes, keys[:count], exists[:count])
        return from_tokens(nodes, x.shape[2:])


class _Pyramid(nn.Module):
    """`(B, C, L)` to the nodes of all levels, fine to coarse, `(B, T, C)`, and the number of nodes of each level."""

    def __init__(self, channels: int, width: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.down = nn.Linear(channels, width)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, scale, stride=scale) for scale in scales)
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in scales)
        self.up = nn.Linear(width, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, list[int]]:
        """`(B, C, L)` to `(B, T, C)` and the sizes of the levels, which sum to T."""
        tokens = to_tokens(x)
        level = self.down(tokens).transpose(1, 2)
        levels = []
        for conv, bn, scale in zip(self.convs, self.bns, self.scales, strict=True):
            short = max(scale - level.shape[2], 0)
            level = F.elu(bn(conv(F.pad(level, (0, short)))))
            levels.append(level)
        coarse = self.up(torch.cat(levels, dim=2).transpose(1, 2))
        sizes = [x.shape[2]] + [part.shape[2] for part in levels]
        return self.norm(torch.cat([tokens, coarse], dim=1)), sizes


class _Layer(nn.Module):
    """A post-norm encoder layer whose attention is limited to the keys of each node."""

    def __init__(self, channels: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.proj = nn.Linear(channels, channels)
        self.ffn = nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, channels))
        self.norms = nn.ModuleList(nn.LayerNorm(channels, eps=1e-6) for _ in range(2))

    def forward(self, nodes: Tensor, keys: Tensor, exists: Tensor) -> Tensor:
        """`(B, T, C)` with the edges `(n, K)` of the first n nodes to `(B, n, C)`."""
        own = nodes[:, : len(keys)]
        # Every node is a batch item with one query and K keys: the fused attention kernels take four axes.
        gathered = (
            f(nodes).index_select(1, keys.flatten()).reshape(-1, *keys.shape[1:], nodes.shape[2])
            for f in (self.key, self.value)
        )
        queries = self.query(own).flatten(0, 1).unsqueeze(1)
        q, k, v = (split_heads(t, self.heads) for t in (queries, *gathered))
        attended = F.scaled_dot_product_attention(q, k, v, exists.repeat(len(nodes), 1)[:, None, None])
        own = self.norms[0](own + self.proj(merge_heads(attended).view_as(own)))
        return self.norms[1](own + self.ffn(own))


def _edges(sizes: Sequence[int], scales: Sequence[int], window: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return for each of the T nodes whom it attends to: `(T, K)` node numbers, and which of the K there are.

    Args:
        sizes: Nodes of each level, fine to coarse; numbers run through the levels.
        scales: Children of a node of each coarse level.
        window: Nodes of its own level that a node attends to.
        device: Where the tables are made.
    """
    most = max(fine - (coarse - 1) * scale for (fine, coarse), scale in zip(pairwise(sizes), scales, strict=True))
    keys, exists, start = [], [], 0
    for level, size in enumerate(sizes):
        node = torch.arange(size, device=device)[:, None]
        beside = node + torch.arange(-(window // 2), window // 2 + 1, device=device)
        below, above = torch.zeros_like(node).expand(-1, most), torch.zeros_like(node)
        has_below, has_above = torch.zeros_like(below, dtype=torch.bool), torch.zeros_like(above, dtype=torch.bool)
        if level > 0:
            child = node * scales[level - 1] + torch.arange(most, device=device)
            last = (node == size - 1) & (child < sizes[level - 1])
            has_below = (child < (node + 1) * scales[level - 1]) & (child < sizes[level - 1]) | last
            below = child + start - sizes[level - 1]
        if level < len(scales):
            above = (node // scales[level]).clamp(max=sizes[level + 1] - 1) + start + size
            has_above = torch.ones_like(above, dtype=torch.bool)
        keys.append(torch.cat([beside + start, below, above], dim=1))
        exists.append(torch.cat([(beside >= 0) & (beside < size), has_below, has_above], dim=1))
        start += size
    there = torch.cat(exists)
    return torch.cat(keys).where(there, 0), there
