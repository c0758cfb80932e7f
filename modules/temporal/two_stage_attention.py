"""Two-stage attention (Zhang and Yan, Crossformer, ICLR 2023)."""

from __future__ import annotations

from torch import Tensor

from nasbench import register_module
from nasbench.ops.two_stage import TwoStageLayer


@register_module(
    name="two_stage_attention",
    properties=("globality",),
    paper="Zhang and Yan, Crossformer: Transformer Utilizing Cross-Dimension Dependency for Multivariate Time Series "
    "Forecasting, ICLR 2023",
    space={"factor": (5, 10, 20)},
    ranges={"factor": "at least 1", "heads": "at least 1"},
    dims=(2,),
    cost_order=2,
)
class TwoStageAttention(TwoStageLayer):
    """Attention along time in each series, then across the series of each segment through r learned routers.

    .. math:: \\hat Z = \\mathrm{LN}(X + \\mathrm{MSA}_t(X)),\\quad
              Z = \\mathrm{LN}(\\hat Z + \\mathrm{FFN}_1(\\hat Z)) \\\\
              B_s = \\mathrm{MSA}_1(R, Z_s, Z_s),\\quad \\bar Z_s = \\mathrm{MSA}_2(Z_s, B_s, B_s) \\\\
              \\hat Y = \\mathrm{LN}(Z + \\bar Z),\\quad Y = \\mathrm{LN}(\\hat Y + \\mathrm{FFN}_2(\\hat Y))

    The routers R gather from all D series and distribute to all of them, so that the second stage costs D r and not
    D². In the paper each segment has routers of its own. Here one set (r, C) serves all segments, because a module
    does not know their number. An FFN is two linear maps with a GELU between them and a width of 4 C. Each attention
    has q, k, v and output projections with bias: 28 C² + (30 + r) C parameters.

    Shapes: `(B, C, D, L) -> (B, C, D, L)`, for D series of L segments of time.

    Args:
        channels: Channels C.
        factor: Number of routers r.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(self, channels: int, *, factor: int = 10, heads: int | None = None) -> None:
        super().__init__(channels, factor=factor, heads=heads)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, D, L) -> (B, C, D, L)`."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
