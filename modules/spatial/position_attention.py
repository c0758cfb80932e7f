"""Position attention module of DANet (Fu et al., "Dual Attention Network", CVPR 2019, arXiv:1809.02983)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.dual_attention import PositionSelfAttention


@register_module(
    name="position_attention",
    properties=("globality",),
    cost_order=2,
    paper="Fu et al., Dual Attention Network for Scene Segmentation, CVPR 2019, arXiv:1809.02983",
    space={"reduction": (4, 8)},
    ranges={"reduction": "at least 1"},
    dims=(2,),
    starts_as_identity=True,
)
class PositionAttention(nn.Module):
    """Add to each position all positions, by an attention without scaling.

    .. math:: y = \\gamma\\, \\mathrm{softmax}(q^T k)\\, v + x

    q and k are 1x1 convolutions to max(1, C // reduction) channels and v is one to C, all with bias. γ starts at 0, so
    the module starts as an identity. Work, and with some kernels memory, grow with the square of the number of
    positions.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        reduction: Ratio of C to the width of queries and keys.
    """

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        self.attention = PositionSelfAttention(channels, reduction=reduction)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        return self.attention(x)
