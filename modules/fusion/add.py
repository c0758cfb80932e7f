"""Sum of branches, the simplest fusion, written `a + b`."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.select import check_inputs


@register_module(
    name="add",
    kind="fusion",
    paper="He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385",
    commutative=True,
)
class Add(nn.Module):
    """Sum of the maps, without parameters.

    .. math:: y = \\sum_i x_i

    Shapes: n maps `(B, C, *S) -> (B, C, *S)`.

    Args:
        channels: Channels C.
        inputs: Number of maps n.
    """

    def __init__(self, channels: int, *, inputs: int = 2) -> None:
        super().__init__()
        check_inputs(inputs)

    def forward(self, *maps: Tensor) -> Tensor:
        """N maps `(B, C, *S) -> (B, C, *S)`."""
        return sum(maps[1:], maps[0])
