"""Late averaging of two streams (Simonyan and Zisserman, NeurIPS 2014, arXiv:1406.2199)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module


@register_module(
    name="two_stream",
    kind="fusion",
    commutative=True,
    paper="Simonyan and Zisserman, Two-Stream Convolutional Networks for Action Recognition in Videos, "
    "NeurIPS 2014, arXiv:1406.2199",
    starts_as_identity=True,
)
class TwoStream(nn.Module):
    """Average of two streams that do not see each other earlier, without parameters.

    .. math:: y = (a + b) / 2

    It serves both maps and logits. Equal inputs come back bit for bit, because doubling and halving are exact.

    Shapes: two tensors of one shape, `(B, C, *S)` or logits `(B, K)` of K classes, to one of that shape.

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two tensors of one shape to one."""
        return (a + b) / 2
