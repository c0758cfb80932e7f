"""Path aggregation (Liu et al., "Path Aggregation Network", CVPR 2018, arXiv:1803.01534)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import conv
from nasbench.ops.pyramid import TopDown, resize


@register_module(
    name="pan",
    kind="neck",
    dims=2,
    properties=("locality", "multiscale"),
    paper="Liu et al., Path Aggregation Network for Instance Segmentation, CVPR 2018, arXiv:1803.01534",
    ranges={"width": "at least 1"},
)
class PathAggregation(nn.Module):
    """A feature pyramid, then a second path from fine to coarse that brings exact positions back up.

    .. math:: P = \\mathrm{FPN}(C),\\quad N_1 = P_1,\\quad
              N_{i+1} = \\mathrm{conv}_{3 \\times 3}(\\mathrm{conv}_{3 \\times 3, s2}(N_i) + P_{i+1})

    All convolutions have a bias, and nothing is normalised. A halved map may miss the size of the next level by one,
    for instance if 7 gives 4 and the pyramid has 3. It is then resized by the nearest position. This is not the
    few-shot PANet of 2019.

    Shapes: a list of `(B, C_i, H_i, W_i)`, fine to coarse, to a list of `(B, width, H_i, W_i)`.

    Args:
        channels: C_i of every level, fine to coarse.
        width: Channels of every level of the result. The paper has 256.
    """

    def __init__(self, channels: Sequence[int], *, width: int = 256) -> None:
        super().__init__()
        self.top_down = TopDown(channels, width)
        self.halve = nn.ModuleList(conv(2, width, width, 3, stride=2) for _ in channels[1:])
        self.smooth = nn.ModuleList(conv(2, width, width, 3) for _ in channels[1:])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """A list of `(B, C_i, H_i, W_i)` to a list of `(B, width, H_i, W_i)`."""
        first, *coarser = self.top_down(maps)
        out = [first]
        for halve, smooth, p in zip(self.halve, self.smooth, coarser, strict=True):
            out.append(smooth(resize(halve(out[-1]), p.shape[2:]) + p))
        return out
