"""Learned queries that read a map and write back (Carion et al., DETR, ECCV 2020, arXiv:2005.12872)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads
from nasbench.ops.nd import from_tokens, to_tokens


@register_module(
    name="query_attention",
    properties=("globality",),
    paper="Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, arXiv:2005.12872",
    space={"queries": (16, 50, 100)},
    ranges={"queries": "at least 1", "heads": "at least 1"},
    dims=(1, 2),
)
class QueryAttention(nn.Module):
    """n learned queries read the map by cross-attention, and the map reads their results by a second one.

    .. math:: Z = \\mathrm{MHA}_r(q = 0 + P,\\; k = X,\\; v = X), \\qquad
        Y = \\mathrm{MHA}_w(q = X,\\; k = Z + P,\\; v = Z)

    As in DETR's decoder the queries have no content of their own. P is a positional embedding. It is added if a learned
    query acts as query or key, but not to values. Both attentions are full multi-head attentions with their four
    projections and biases. Norm, residual and feed-forward belong to the surrounding block.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        queries: Number of learned queries n. The cost is linear in n.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(self, channels: int, *, queries: int = 100, heads: int | None = None) -> None:
        super().__init__()
        heads = choose_heads(channels, heads)
        self.queries = nn.Parameter(torch.randn(queries, channels))
        self.read = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.write = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        tokens = to_tokens(x)
        queries = self.queries.expand(x.shape[0], -1, -1)
        found, _ = self.read(queries, tokens, tokens, need_weights=False)
        written, _ = self.write(tokens, found + queries, found, need_weights=False)
        return from_tokens(written, x.shape[2:])
