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
    """Attention along time in each series, then between the series at each time segment, through r learned routers.

    `nasbench show two_stage_attention` has the equations. The module `two_stage_attention` is this layer with one set
    of routers. With two feed-forward networks (FFNs) of width F the layer has 12 C² + 22 C + 4 C F + 2 F parameters.
    Each set of routers adds r C parameters.

    Shapes: `(B, D, L, C) -> (B, D, L, C)`, where D is the number of series and L the number of time segments.

    Args:
        channels: Number of channels C.
        factor: Number of routers r.
        heads: Number of attention heads. None means the default of `choose_heads`.
        width: Width F of the FFNs. None means 4 C.
        segments: Number of time segments L. Each segment then has its own set of routers, as in the paper. None means
            that all segments share one set, for any L.
        dropout: Dropout rate after each attention and each FFN.

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
        """Attend along time, then between series: `(B, D, L, C) -> (B, D, L, C)`."""
        series = self._add_norm_ffn(0, x, self.time(x, x))
        segments = series.transpose(1, 2).contiguous()  # (B, L, D, C), copied once because three projections read it
        routers = self.routers.expand(*segments.shape[:2], -1, -1)
        messages = self.gather(routers, segments)  # (B, L, r, C)
        segments = self._add_norm_ffn(1, segments, self.distribute(segments, messages))
        return segments.transpose(1, 2)

    def _add_norm_ffn(self, stage: int, tokens: Tensor, attended: Tensor) -> Tensor:
        """Add the attended tokens and normalise. Then apply the FFN, add and normalise: `(..., C) -> (..., C)`."""
        tokens = self.norms[2 * stage](tokens + self.dropout(attended))
        return self.norms[2 * stage + 1](tokens + self.dropout(self.ffns[stage](tokens)))
