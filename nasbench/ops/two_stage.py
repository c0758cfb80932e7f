"""Two-stage attention (Zhang and Yan, Crossformer, ICLR 2023), by the module and the stem."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.ops.attention import CrossAttention, choose_heads

__all__ = ["TwoStageLayer"]


class TwoStageLayer(nn.Module):
    """Attention along time in each series; then, at each segment, across series through r learned routers.

    The equations stand with the module (`nasbench show two_stage_attention`), which is this layer with one set of
    routers. With two FFNs of width F: 12 C² + 22 C + 4 C F + 2 F parameters, and r C routers in each set.

    Shapes: `(B, D, L, C) -> (B, D, L, C)`: D series by L segments of time.

    Args:
        channels: Channels C.
        factor: Number of routers r.
        heads: Attention heads; None for the default of `choose_heads`.
        width: F; 4 C by default.
        segments: L, for routers of its own at each segment, as in the paper; None for one set that serves any L.
        dropout: After each attention and FFN.

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
        segments = series.transpose(1, 2).contiguous()  # (B, L, D, C), read by three projections
        routers = self.routers.expand(*segments.shape[:2], -1, -1)
        messages = self.gather(routers, segments)  # (B, L, r, C)
        segments = self._finish(1, segments, self.distribute(segments, messages))
        return segments.transpose(1, 2)

    def _finish(self, stage: int, tokens: Tensor, attended: Tensor) -> Tensor:
        """Residual and norm, FFN, residual and norm of a stage: `(..., C) -> (..., C)`."""
        tokens = self.norms[2 * stage](tokens + self.dropout(attended))
        return self.norms[2 * stage + 1](tokens + self.dropout(self.ffns[stage](tokens)))
