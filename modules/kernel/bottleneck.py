"""Residual bottleneck (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import batch_norm, conv, reduced


@register_module(
    name="bottleneck",
    properties=("locality",),
    paper="He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385",
    selectable=False,
    ranges={"width": "at least 1"},
)
class Bottleneck(nn.Module):
    """The plain block with which plans are compared: 1x1 to a few channels, 3x3, 1x1 back, added to the input.

    .. math:: y = x + \\mathrm{BN}(W_3\\, \\mathrm{relu}(\\mathrm{BN}(W_2 *_{3 \\times 3}
              \\mathrm{relu}(\\mathrm{BN}(W_1 x)))))

    It is the equal-cost control (`nasbench.study.phases.equal_cost`). Its width sets its cost in steps of
    `(2 C + 9 w) w` MACs per position (`(2 C + 3 w) w` in one dimension), and nothing in it is new. The paper has a ReLU
    after the sum. Here there is none, so that the block serves maps with negative values, such as a ViT's. No selector
    of a space selects it. Name it to search it.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        width: Channels w inside. The default is max(1, C // 4), as in ResNet-50.
    """

    def __init__(self, channels: int, *, dims: int = 2, width: int | None = None) -> None:
        super().__init__()
        inner = reduced(channels, 4) if width is None else width
        self.branch = nn.Sequential(
            conv(dims, channels, inner, bias=False),
            batch_norm(dims, inner),
            nn.ReLU(),
            conv(dims, inner, inner, 3, bias=False),
            batch_norm(dims, inner),
            nn.ReLU(),
            conv(dims, inner, channels, bias=False),
            batch_norm(dims, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        return x + self.branch(x)
