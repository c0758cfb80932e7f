"""Context anchor attention (Cai et al., "Poly Kernel Inception Network", CVPR 2024, arXiv:2403.06258)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.strip import StripGate


@register_module(
    name="caa",
    properties=("globality",),
    paper="Cai et al., Poly Kernel Inception Network for Remote Sensing Detection, CVPR 2024, arXiv:2403.06258",
    space={"kernel": (7, 11, 19)},
    ranges={"kernel": "odd, at least 1"},
    dims=(2,),
)
class ContextAnchorAttention(nn.Module):
    """Scale every value by a gate that sees far along both axes, through two depthwise strips.

    .. math:: y = x \\odot \\sigma(f_2(\\mathrm{dw}_{k \\times 1}(\\mathrm{dw}_{1 \\times k}(f_1(\\mathrm{avg}_7(x))))))

    f is a 1x1 convolution without bias, BN (epsilon 1e-3) and SiLU. The strips have a bias. The average over 7x7 counts
    the zeros beyond the border. Because f_2 ends in a SiLU, the gate lies between 0.43 and 1.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        kernel: Length k of the strips, odd.
    """

    def __init__(self, channels: int, *, kernel: int = 11) -> None:
        super().__init__()
        self.gate = StripGate(channels, kernel=kernel)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        return x * self.gate(x)
