"""Selective kernels (Li et al., "Selective Kernel Networks", CVPR 2019, arXiv:1903.06586)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import batch_norm, conv, groups_32
from nasbench.ops.select import BranchSelect, convex_sum


@register_module(
    name="sk",
    properties=("locality", "multiscale"),
    paper="Li et al., Selective Kernel Networks, CVPR 2019, arXiv:1903.06586",
    space={"kernels": ((3, 5), (3, 5, 7))},
    ranges={"kernels": "2 or more values, odd, at least 3", "reduction": "at least 1"},
)
class SelectiveKernel(nn.Module):
    """Convolutions of several reaches, which each channel weighs by a softmax that sees all of them pooled.

    .. math:: u_i = \\mathrm{relu}(\\mathrm{BN}(\\mathrm{conv}_i(x))),\\quad
              z = \\mathrm{relu}(\\mathrm{BN}(W\\, \\mathrm{GAP}(\\textstyle\\sum_i u_i))),\\quad
              y = \\sum_i \\mathrm{softmax}_i(A_i z) \\odot u_i

    As in the paper a kernel of side k is a 3x3 one dilated by (k - 1) / 2, in 32 groups (gcd(C, 32) if 32 does not
    divide C). Popular copies use real 5x5 convolutions without groups, and omit the BN and ReLU of z. Training needs
    two or more items in a batch, because z is normalised over the batch only.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        kernels: Reach of each branch, odd and at least 3. There must be two or more.
        reduction: Ratio r. z has max(C // r, 32) channels.
    """

    def __init__(self, channels: int, *, dims: int = 2, kernels: Sequence[int] = (3, 5), reduction: int = 16) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(channels, dims, dilation=(k - 1) // 2) for k in kernels)
        self.weights = BranchSelect(channels, len(kernels), dims=dims, reduction=reduction)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        maps = [branch(x) for branch in self.branches]
        return convex_sum(maps, self.weights(maps))


def _branch(channels: int, dims: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        conv(dims, channels, channels, 3, dilation=dilation, groups=groups_32(channels), bias=False),
        batch_norm(dims, channels),
        nn.ReLU(),
    )
