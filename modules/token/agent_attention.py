"""Agent attention (Han et al., "Agent Attention: On the Integration of Softmax and Linear Attention", ECCV 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import conv, from_tokens, to_tokens
from nasbench.ops.position import resize

_GRID = 7  # side of the bias that is full in both axes, which is the paper's for every size of map


@register_module(
    name="agent_attention",
    properties=("globality",),
    paper="Han et al., Agent Attention: On the Integration of Softmax and Linear Attention, ECCV 2024, "
    "arXiv:2312.08874",
    space={"agents": (9, 16, 49)},
    ranges={"agents": "at least 1", "heads": "at least 1", "window": "at least 1"},
    dims=(1, 2),
)
class AgentAttention(nn.Module):
    """Attention through n agents, the pooled queries, which collect from all N positions and return to them.

    The cost is linear in N.

    .. math:: A = \\mathrm{pool}_n(Q), \\quad V_A = \\mathrm{softmax}(d^{-1/2} A K^T + b_1) V, \\quad
        Y = W_o (\\mathrm{softmax}(d^{-1/2} Q A^T + b_2) V_A + \\mathrm{dw}_3(V))

    with [Q, K, V] = W x, in each head. In the second step A is the key and V_A the value. Each bias is a sum of three
    low-rank parts (two in one dimension): a coarse grid with sides of 7 positions for every agent, a term by row and
    one by column. All are interpolated to the size of the map. Norm before and residual after belong to the
    surrounding block. In two dimensions there are 4 C² + 14 C + heads n (98 + 4 window) parameters. They are named as
    in the official code, where the row and column terms have a leading dimension of 1.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        agents: Number of agents n. The cost is linear in n. On a map the agents are pooled from a grid of n cells,
            whose sides are as nearly equal as n can be divided.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        window: Side of the map for which the row and column biases are stored.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    an_bias: nn.Parameter
    na_bias: nn.Parameter

    def __init__(
        self, channels: int, *, dims: int = 2, agents: int = 49, heads: int | None = None, window: int = 14
    ) -> None:
        super().__init__()
        self.dims, self.heads = dims, choose_heads(channels, heads)
        self.grid = _grid(agents, dims)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.dwc = conv(dims, channels, channels, 3, groups=channels)
        # The letters are a: agent, n: token, h: row, w: column. "an" is by agent (query) and token (key).
        for name in ("an_bias", "na_bias"):
            self._add(name, self.heads, agents, *[_GRID] * dims)
        for axis in range(dims):
            line = [window if i == axis else 1 for i in range(dims)]
            self._add("ah_bias" if axis == 0 else "aw_bias", self.heads, agents, *line)
            self._add("ha_bias" if axis == 0 else "wa_bias", self.heads, *line, agents)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        size = x.shape[2:]
        q, k, v = self.qkv(to_tokens(x)).chunk(3, dim=-1)
        local = self.dwc(from_tokens(v, size))
        agents = split_heads(to_tokens(self._pool(from_tokens(q, size))), self.heads)
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        collect, hand_out = (bias[None].to(q.dtype) for bias in self._biases(size))
        found = F.scaled_dot_product_attention(agents, k, v, attn_mask=collect)
        attended = F.scaled_dot_product_attention(q, agents, found, attn_mask=hand_out)
        return from_tokens(self.proj(merge_heads(attended) + to_tokens(local)), size)

    def _add(self, name: str, *shape: int) -> None:
        self.register_parameter(name, nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02)))

    def _pool(self, q: Tensor) -> Tensor:
        if self.dims == 1:
            return F.adaptive_avg_pool1d(q, self.grid)
        rows, columns = self.grid
        return F.adaptive_avg_pool2d(q, (rows, columns))

    def _biases(self, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return b1 `(heads, n, N)` and b2 `(heads, N, n)` for a map of `size`."""
        collect = [getattr(self, name) for name in ("ah_bias", "aw_bias")[: self.dims]]
        hand_out = [getattr(self, name).movedim(-1, 1) for name in ("ha_bias", "wa_bias")[: self.dims]]
        return _sum(self.an_bias, collect, size), _sum(self.na_bias, hand_out, size).transpose(1, 2)


def _grid(agents: int, dims: int) -> tuple[int, ...]:
    """Return the rows and columns of a grid of `agents` cells that is as nearly square as possible."""
    if dims == 1:
        return (agents,)
    rows = max(r for r in range(1, math.isqrt(agents) + 1) if agents % r == 0)
    return rows, agents // rows


def _sum(grid: Tensor, lines: list[Tensor], size: Sequence[int]) -> Tensor:
    """Sum a grid and lines, `(heads, n, *R)`, at all N positions: `(heads, n, N)`. Line i varies along axis i."""
    bias = resize(grid, size)
    for axis, line in enumerate(lines):
        bias = bias + resize(line, [side if i == axis else 1 for i, side in enumerate(size)])
    return bias.flatten(2)
