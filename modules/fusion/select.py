"""Selection among branches (Li et al., "Selective Kernel Networks", CVPR 2019, arXiv:1903.06586)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.select import BranchSelect, check_inputs, convex_sum


@register_module(
    name="select",
    kind="fusion",
    properties=("globality",),
    paper="Li et al., Selective Kernel Networks, CVPR 2019, arXiv:1903.06586",
    starts_as_identity=True,
    commutative=True,
    ranges={"reduction": "at least 1"},
)
class Select(nn.Module):
    """Weighted sum of branches. Each channel weighs them by a softmax that sees all branches pooled.

    .. math:: z = \\mathrm{relu}(\\mathrm{BN}(W\\, \\mathrm{GAP}(\\textstyle\\sum_i x_i))),\\quad
              w_i = \\mathrm{softmax}_i(A_i z),\\quad y = \\sum_i w_i \\odot x_i

    The weights sum to one, and equal inputs come back bit for bit. Training needs two or more items in a batch, because
    z is normalised over the batch only.

    Shapes: n maps `(B, C, *S) -> (B, C, *S)`.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        inputs: Number of maps n.
        reduction: Ratio r. z has max(C // r, 32) channels.
    """

    def __init__(self, channels: int, *, dims: int = 2, inputs: int = 2, reduction: int = 16) -> None:
        super().__init__()
        self.weights = BranchSelect(channels, check_inputs(inputs), dims=dims, reduction=reduction)

    def forward(self, *maps: Tensor) -> Tensor:
        """N maps `(B, C, *S) -> (B, C, *S)`."""
        return convex_sum(maps, self.weights(maps))
