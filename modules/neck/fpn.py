"""Feature pyramid network (Lin et al., "Feature Pyramid Networks", CVPR 2017, arXiv:1612.03144)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.pyramid import TopDown


@register_module(
    name="fpn",
    kind="neck",
    dims=2,
    properties=("locality", "multiscale"),
    paper="Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017, arXiv:1612.03144",
    ranges={"width": "at least 1"},
)
class FeaturePyramid(nn.Module):
    """Add the meaning of the coarse levels to the fine ones, from coarse to fine.

    .. math:: M_n = L_n(C_n),\\quad M_i = L_i(C_i) + \\mathrm{nearest}(M_{i+1}),\\quad
              P_i = \\mathrm{conv}_{3 \\times 3}(M_i)

    L is a 1x1 convolution. All convolutions have a bias, and nothing is normalised. The coarser map is resized to the
    size of the lateral one, so that odd sizes work.

    Shapes: a list of `(B, C_i, H_i, W_i)`, fine to coarse, to a list of `(B, width, H_i, W_i)`.

    Args:
        channels: C_i of every level, fine to coarse.
        width: Channels of every level of the result. The paper, and every head made for it, has 256. Fewer are enough
            for a small backbone.
    """

    def __init__(self, channels: Sequence[int], *, width: int = 256) -> None:
        super().__init__()
        self.top_down = TopDown(channels, width)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """A list of `(B, C_i, H_i, W_i)` to a list of `(B, width, H_i, W_i)`."""
        return self.top_down(maps)
