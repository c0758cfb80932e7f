"""Dual attention (Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, arXiv:1809.02983)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.dual_attention import ChannelSelfAttention, PositionSelfAttention


@register_module(
    name="danet",
    properties=("globality",),
    cost_order=2,
    paper="Fu et al., Dual Attention Network for Scene Segmentation, CVPR 2019, arXiv:1809.02983",
    space={"reduction": (4, 8)},
    ranges={"reduction": "at least 1"},
    dims=(2,),
)
class DualAttention(nn.Module):
    """The sum of an attention among positions and one among channels.

    .. math:: y = \\mathrm{PAM}(x) + \\mathrm{CAM}(x)

    PAM is `position_attention` and CAM is `channel_attention`, each with its own residual. As constructed, with both γ
    at 0, y is 2 x. The weights 0.5 and 0.2 that some notes give are not in the paper.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        reduction: Ratio of C to the width of PAM's queries and keys.
    """

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        self.position = PositionSelfAttention(channels, reduction=reduction)
        self.channel = ChannelSelfAttention()

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        return self.position(x) + self.channel(x)
