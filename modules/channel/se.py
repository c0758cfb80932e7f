"""Squeeze-and-excitation (Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import conv, global_avg_pool, reduced


@register_module(
    name="se",
    properties=("globality",),
    paper="Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, arXiv:1709.01507",
    space={"reduction": (4, 8, 16)},
    ranges={"reduction": "at least 1"},
    dims=(1, 2),
)
class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from all pooled channels.

    .. math:: y = x \\odot \\sigma(W_2\\, \\mathrm{relu}(W_1\\, \\mathrm{GAP}(x)))

    `W1` maps C to max(1, C // reduction) and `W2` maps back, both without bias: `2 C² / reduction` parameters, 512 at
    C = 64. This is the paper's form. timm's layer of the same name rounds the width to a multiple of 8 and has biases.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        reduction: Bottleneck ratio r. A smaller ratio is stronger and costs more parameters.
    """

    def __init__(self, channels: int, *, dims: int = 2, reduction: int = 16) -> None:
        super().__init__()
        width = reduced(channels, reduction)
        self.squeeze = conv(dims, channels, width, bias=False)
        self.excite = conv(dims, width, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        gate = self.excite(self.squeeze(global_avg_pool(x)).relu()).sigmoid()
        return x * gate
