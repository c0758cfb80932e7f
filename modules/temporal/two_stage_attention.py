"""Two-stage attention (Zhang and Yan, Crossformer, ICLR 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.registry import register_module


@register_module(
    name="two_stage_attention",
    properties=("globality",),
    paper="Zhang and Yan, Crossformer: Transformer Utilizing Cross-Dimension Dependency for Multivariate Time Series "
    "Forecasting, ICLR 2023",
    space={"factor": (5, 10, 20)},
    dims=(2,),
    cost_order=2,
)
class TwoStageAttention(nn.Module):
    """Attention along time in each series; then, at each segment, across series through r learned routers.

    .. math:: \\hat Z = \\mathrm{LN}(X + \\mathrm{MSA}_t(X)),\\quad
              Z = \\mathrm{LN}(\\hat Z + \\mathrm{FFN}_1(\\hat Z)) \\\\
              B_s = \\mathrm{MSA}_1(R, Z_s, Z_s),\\quad \\bar Z_s = \\mathrm{MSA}_2(Z_s, B_s, B_s) \\\\
              \\hat Y = \\mathrm{LN}(Z + \\bar Z),\\quad Y = \\mathrm{LN}(\\hat Y + \\mathrm{FFN}_2(\\hat Y))

    The routers R gather from all D series and give back to all of them, so that the second stage costs D r and not
    D². In the paper each segment has routers of its own; here one set (r, C) serves all segments, because a module
    does not know their number. The FFNs are two linear maps with a GELU between, four times as wide. Each attention
    has q, k, v and output projections with bias: 28 C² + (30 + r) C parameters.

    Shapes: `(B, C, D, L) -> (B, C, D, L)`: D series by L segments of time.

    Args:
        channels: Channels C.
        factor: Number of routers r.
        heads: Attention heads; by default the largest count that leaves at least 16 channels a head, at most 8.

    Raises:
        UnsupportedError: If `heads` does not divide C, or `factor` is below 1.
    """

    def __init__(self, channels: int, *, factor: int = 10, heads: int | None = None) -> None:
        super().__init__()
        heads = choose_heads(channels, heads)
        if factor < 1:
            raise UnsupportedError(f"factor is {factor}; at least 1 router must pass messages between series")
        self.time = _Attention(channels, heads)
        self.gather = _Attention(channels, heads)
        self.distribute = _Attention(channels, heads)
        self.routers = nn.Parameter(torch.randn(factor, channels))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4))
        self.ffns = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, D, L) -> (B, C, D, L)`."""
        series = x.permute(0, 2, 3, 1)  # (B, D, L, C)
        series = self._finish(0, series, self.time(series, series))
        segments = series.transpose(1, 2)  # (B, L, D, C)
        routers = self.routers.expand(*segments.shape[:2], -1, -1)
        messages = self.gather(routers, segments)  # (B, L, r, C)
        segments = self._finish(1, segments, self.distribute(segments, messages))
        return segments.permute(0, 3, 2, 1)

    def _finish(self, stage: int, tokens: Tensor, attended: Tensor) -> Tensor:
        """Residual and norm, FFN, residual and norm of a stage: `(..., C) -> (..., C)`."""
        tokens = self.norms[2 * stage](tokens + attended)
        return self.norms[2 * stage + 1](tokens + self.ffns[stage](tokens))


class _Attention(nn.Module):
    """Multi-head attention of `(B, G, N, C)` to `(B, G, M, C)`: in each of the B G groups by itself."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.proj = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, tokens: Tensor, source: Tensor) -> Tensor:
        """`(B, G, N, C)` and `(B, G, M, C)` to `(B, G, N, C)`."""
        projected = (self.query(tokens), self.key(source), self.value(source))
        # Groups join the batch: the fused attention kernels take four axes.
        q, k, v = (split_heads(t.flatten(0, 1), self.heads) for t in projected)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.proj(merge_heads(attended)).unflatten(0, tokens.shape[:2])
