"""Efficient additive attention (Shaker et al., "SwiftFormer", ICCV 2023, arXiv:2303.15446)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import from_tokens, to_tokens


@register_module(
    name="additive_attention",
    properties=("globality",),
    paper="Shaker et al., SwiftFormer: Efficient Additive Attention for Transformer-based Real-time Mobile Vision "
    "Applications, ICCV 2023, arXiv:2303.15446",
    dims=(1, 2),
)
class AdditiveAttention(nn.Module):
    """Multiply every key by one global query, the weighted sum of all queries: linear in N, without values.

    .. math:: \\hat q = \\frac{W_q x}{\\lVert W_q x \\rVert}, \\quad
        \\hat k = \\frac{W_k x}{\\lVert W_k x \\rVert}, \\quad
        a = \\frac{C^{-1/2}\\, \\hat q w_g}{\\lVert C^{-1/2}\\, \\hat q w_g \\rVert_{\\text{over } N}}, \\quad
        g = \\sum_n a_n \\hat q_n, \\quad y = W_f (W_p (g \\odot \\hat k) + \\hat q)

    The weights a are normalised to length 1 over the positions and not by a softmax, so they may be negative. One w_g
    serves all channels. Norm and residual belong to the surrounding block. 4 C² + 5 C parameters.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_query = nn.Linear(channels, channels)
        self.to_key = nn.Linear(channels, channels)
        self.w_g = nn.Parameter(torch.randn(channels, 1))
        self.proj = nn.Linear(channels, channels)
        self.final = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        tokens = to_tokens(x)
        query = F.normalize(self.to_query(tokens), dim=-1)
        key = F.normalize(self.to_key(tokens), dim=-1)
        weights = F.normalize(query @ self.w_g * x.shape[1] ** -0.5, dim=1)
        everything = (weights * query).sum(dim=1, keepdim=True)
        return from_tokens(self.final(self.proj(everything * key) + query), x.shape[2:])
