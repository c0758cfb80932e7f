"""Channel attention module of DANet (Fu et al., "Dual Attention Network", CVPR 2019, arXiv:1809.02983)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.dual_attention import ChannelSelfAttention


@register_module(
    name="channel_attention",
    properties=("globality",),
    paper="Fu et al., Dual Attention Network for Scene Segmentation, CVPR 2019, arXiv:1809.02983",
    dims=(1, 2),
    starts_as_identity=True,
)
class ChannelAttention(nn.Module):
    """Add to each channel the other channels, by an attention that weighs less similar channels more.

    .. math:: E = X X^T,\\quad A = \\mathrm{softmax}(\\mathrm{rowmax}(E) - E),\\quad y = \\gamma A X + x

    X is x as a C x N matrix and E is C x C, so the cost is linear in the number N of positions. γ is the only parameter
    and starts at 0, so the module starts as an identity.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C. The module has no width of its own.
        dims: Spatial dimensions, 1 or 2. The module is the same for both.
    """

    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__()
        self.attention = ChannelSelfAttention()

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        return self.attention(x)
