"""Multiway feed-forward network (Wang et al., "Image as a Foreign Language: BEiT Pretraining ...", CVPR 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import from_tokens, to_tokens


@register_module(
    name="multiway_ffn",
    properties=(),
    paper="Wang et al., Image as a Foreign Language: BEiT Pretraining for Vision and Vision-Language Tasks, "
    "CVPR 2023, arXiv:2208.10442",
    space={"expansion": (2, 4)},
    ranges={"expansion": "at least 1"},
    dims=(1, 2),
)
class MultiwayFFN(nn.Module):
    """Two feed-forward experts, mixed at each position by a learned soft route.

    .. math:: y = r_1\\, F_1(x) + r_2\\, F_2(x), \\quad r = \\mathrm{softmax}(W_r x), \\quad
        F_i(x) = W_{i2}\\, \\mathrm{gelu}(W_{i1} x)

    BEiT-3 chooses the expert by the modality of a token, which is a switch set from outside. One map has one modality,
    so here the route is learned and nothing is switched. Every layer has a bias. W_{i1} maps C to expansion * C. Norm
    and residual belong to the surrounding block. The module is pointwise and so has none of the spatial properties.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        expansion: Width of the hidden layers, in multiples of C.
    """

    def __init__(self, channels: int, *, expansion: int = 4) -> None:
        super().__init__()
        self.route = nn.Linear(channels, 2)
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(channels, expansion * channels),
                nn.GELU(),
                nn.Linear(expansion * channels, channels),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        tokens = to_tokens(x)
        first, second = self.route(tokens).softmax(dim=-1).split(1, dim=-1)  # (B, N, 1) each
        mixed = first * self.experts[0](tokens) + second * self.experts[1](tokens)
        return from_tokens(mixed, x.shape[2:])
