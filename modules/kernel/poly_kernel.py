"""Poly kernel inception (Cai et al., "Poly Kernel Inception Network", CVPR 2024, arXiv:2403.06258)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import conv
from nasbench.ops.strip import StripGate, conv_block


@register_module(
    name="poly_kernel",
    properties=("locality", "multiscale", "globality"),
    dims=2,
    paper="Cai et al., Poly Kernel Inception Network for Remote Sensing Detection, CVPR 2024, arXiv:2403.06258",
    space={"kernels": ((3, 5, 7), (3, 5, 7, 9, 11))},
    ranges={"kernels": "1 or more values, odd, at least 1"},
)
class PolyKernel(nn.Module):
    """Depthwise kernels of five sizes in parallel, weighed by a gate that sees far along both axes.

    .. math:: p = f_1(x),\\quad d = \\mathrm{dw}_3(p),\\quad s = d + \\textstyle\\sum_{k > 3} \\mathrm{dw}_k(d),\\quad
              z = f_2(s),\\quad y = x + f_3(z + z \\odot a(p))

    f is a 1x1 convolution without bias, BN with epsilon 1e-3 and SiLU. The depthwise convolutions have a bias and no
    norm. a is the factor of `caa`, here without norm and activation around its 1x1 convolutions.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        kernels: Sides of the depthwise kernels, odd: the first runs on p, the others on its result.
    """

    def __init__(self, channels: int, *, kernels: Sequence[int] = (3, 5, 7, 9, 11)) -> None:
        super().__init__()
        self.before = conv_block(channels)
        first, *others = (conv(2, channels, channels, k, groups=channels) for k in kernels)
        self.first, self.others = first, nn.ModuleList(others)
        self.mix = conv_block(channels)
        self.gate = StripGate(channels, norm=False)
        self.after = conv_block(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        p = self.before(x)
        d = self.first(p)
        z = self.mix(sum((branch(d) for branch in self.others), d))
        return x + self.after(z + z * self.gate(p))
