"""Two-stage attention (Zhang and Yan, Crossformer, ICLR 2023).

The module `two_stage_attention` and the forecasting backbone `crossformer` use it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.ops.attention import CrossAttention, choose_heads

__all__ = ["TwoStageLayer"]


class TwoStageLayer(nn.Module):
    """Attention along time in each series, then across the series of each segment through r learned routers.

    `nasbench show two_stage_attention` has the equations. That module is this layer with one set of routers. With two
    FFNs of width F it has 12 C² + 22 C + 4 C F + 2 F parameters, and r C more for each set of routers.

    Shapes: `(B, D, L, C) -> (B, D, L, C)`: D series by L segments of time.

    Args:
        channels: Channels C.
        factor: Number of routers r.
        heads: Attention heads. None means the default of `choose_heads`.
        width: Width F of the FFNs. The default is 4 C.
        segments: Number of segments L, for a set of routers at each segment, as in the paper. None means one set that
            serves any L.
        dropout: Dropout after each attention and FFN.

    Raises:
        UnsupportedError: If `heads` does not divide C, or `factor` is below 1.
    """

    def __init__(
        self,
        channels: int,
        *,
        factor: int = 10,
        heads: int | None = None,
        width: int | None = None,
        segments: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        heads = choose_heads(channels, heads)
        if factor < 1:
            raise UnsupportedError(f"factor is {factor}; at least 1 router must pass messages between series")
        width = 4 * channels if width is None else width
        self.time = CrossAttention(channels, heads)
        self.gather = CrossAttention(channels, heads)
        self.distribute = CrossAttention(channels, heads)
        self.routers = nn.Parameter(torch.randn(*([] if segments is None else [segments]), factor, channels))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4))
        self.ffns = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, channels)) for _ in range(2)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, D, L, C) -> (B, D, L, C)`."""
        series = self._finish(0, x, self.time(x, x))
        segments = series.transpose(1, 2).contiguous()  # (B, L, D, C), copied once because three projections read it
        routers = self.routers.expand(*segments.shape[:2], -1, -1)
        messages = self.gather(routers, segments)  # (B, L, r, C)
        segments = self._finish(1, segments, self.distribute(segments, messages))
        return segments.transpose(1, 2)

    def _finish(self, stage: int, tokens: Tensor, attended: Tensor) -> Tensor:
        """`(..., C) -> (..., C)`: residual and norm, then FFN, residual and norm of a stage."""
        tokens = self.norms[2 * stage](tokens + self.dropout(attended))
        return self.norms[2 * stage + 1](tokens + self.dropout(self.ffns[stage](tokens)))
