"""Renegotiated branch weights (after Zhang et al., "EPSANet", ACCV 2022, arXiv:2105.14447)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import conv, global_avg_pool
from nasbench.ops.select import check_inputs, convex_sum


@register_module(
    name="interact",
    kind="fusion",
    properties=("globality",),
    paper="Zhang et al., EPSANet: An Efficient Pyramid Squeeze Attention Block, ACCV 2022, arXiv:2105.14447",
    starts_as_identity=True,
    commutative=True,
)
class Interact(nn.Module):
    """Weighted sum of branches. Each branch rates itself from its own pooled map, and a softmax compares the ratings.

    .. math:: r_i = \\sigma(W_i\\, \\mathrm{GAP}(x_i) + b_i),\\quad w_i = \\mathrm{softmax}_i(r_i),\\quad
              y = \\sum_i w_i \\odot x_i

    A rating lies in (0, 1), so no branch can be switched off. Among n branches every weight lies between
    1 / (1 + (n-1) e) and e / (e + n-1). For four branches that is [0.109, 0.475] and for two [0.269, 0.731]. `select`
    and `gate` have no such bounds. The weights sum to one, and equal inputs come back bit for bit.

    Shapes: n maps `(B, C, *S) -> (B, C, *S)`.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        inputs: Number of maps n.
    """

    def __init__(self, channels: int, *, dims: int = 2, inputs: int = 2) -> None:
        super().__init__()
        self.rate = nn.ModuleList(conv(dims, channels, channels) for _ in range(check_inputs(inputs)))

    def weights(self, *maps: Tensor) -> Tensor:
        """N maps `(B, C, *S) -> (n, B, C, 1, ...)`, summing to one over n."""
        ratings = [rate(global_avg_pool(x)).sigmoid() for rate, x in zip(self.rate, maps, strict=True)]
        return torch.stack(ratings).softmax(dim=0).to(maps[0].dtype)  # under autocast a softmax returns float32

    def forward(self, *maps: Tensor) -> Tensor:
        """N maps `(B, C, *S) -> (B, C, *S)`."""
        return convex_sum(maps, self.weights(*maps))
