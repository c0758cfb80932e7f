"""Pyramid pooling attention (Wu et al., "P2T: Pyramid Pooling Transformer for Scene Understanding", TPAMI 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import conv, from_tokens, to_tokens

_RATIOS = (12.0, 16.0, 20.0, 24.0)
_REFERENCE = 56  # side of the map which the paper's first stage pools by these ratios


@register_module(
    name="pyramid_pool_attention",
    properties=("globality", "multiscale"),
    paper="Wu et al., P2T: Pyramid Pooling Transformer for Scene Understanding, TPAMI 2023, arXiv:2106.12011",
    space={"ratios": ((12, 16, 20, 24), None)},
    ranges={"heads": "at least 1", "ratios": "1 or more values, at least 1"},
    dims=(2,),
    cost_order=2,
)
class PyramidPoolAttention(nn.Module):
    """Attention of every position to a pyramid of average-pooled maps.

    .. math:: P_i = \\mathrm{avgpool}_{r_i}(X), \\quad P = \\mathrm{LN}([P_i + \\mathrm{dw}_{3,i}(P_i)]_i), \\quad
        Y = W_o\\, \\mathrm{MHA}(q = W_q X,\\; [k, v] = W_{kv} P)

    Map i is pooled adaptively to (round(H / r_i), round(W / r_i)) positions, at least 1 in each direction. The keys are
    a share Σ 1 / r_i² of the positions, 1.6 % for the default ratios, so the cost is still quadratic. `ratios=None`
    makes their number constant. In P2T the blocks of a stage share the dw convolutions. Here they belong to the module.
    Norm before and residual after belong to the surrounding block.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        ratios: Pooling ratios r_i, one for each pooled map, all at least 1. The default is that of P2T's first stage.
            P2T halves them with the map from stage to stage. None does so for any size: the ratios are 12, 16, 20 and
            24 for a map whose longer side is 56, and in proportion for others.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(
        self, channels: int, *, heads: int | None = None, ratios: tuple[float, ...] | None = (12, 16, 20, 24)
    ) -> None:
        super().__init__()
        self.heads = choose_heads(channels, heads)
        self.ratios = None if ratios is None else tuple(ratios)
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.local = nn.ModuleList(conv(2, channels, channels, 3, groups=channels) for _ in self.ratios or _RATIOS)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        q = split_heads(self.q(to_tokens(x)), self.heads)
        k, v = (split_heads(t, self.heads) for t in self.kv(self._pyramid(x)).chunk(2, dim=-1))
        attended = merge_heads(F.scaled_dot_product_attention(q, k, v))
        return from_tokens(self.proj(attended), x.shape[2:])

    def _pyramid(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, K, C)`: the K positions of all pooled maps together, normalised."""
        height, width = (int(side) for side in x.shape[2:])
        levels = []
        for ratio, local in zip(self._ratios(max(height, width)), self.local, strict=True):
            pooled = F.adaptive_avg_pool2d(x, (max(1, round(height / ratio)), max(1, round(width / ratio))))
            levels.append(to_tokens(pooled + local(pooled)))
        return self.norm(torch.cat(levels, dim=1))

    def _ratios(self, side: int) -> tuple[float, ...]:
        if self.ratios is not None:
            return self.ratios
        return tuple(max(1.0, ratio * side / _REFERENCE) for ratio in _RATIOS)
