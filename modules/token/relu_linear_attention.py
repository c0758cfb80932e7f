"""Multi-scale linear attention of EfficientViT (Cai et al., ICCV 2023, arXiv:2205.14756)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.attention import choose_heads, full_precision
from nasbench.ops.nd import batch_norm, conv

_EPS = 1e-15


@register_module(
    name="relu_linear_attention",
    properties=("locality", "globality", "multiscale"),
    paper="Cai et al., EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction, ICCV 2023, "
    "arXiv:2205.14756",
    space={"scales": ((5,), (3, 5))},
    dims=(2,),
)
class ReluLinearAttention(nn.Module):
    """Attention with the similarity relu(q) relu(k), summed up before it is asked: linear in N.

    .. math:: o_i = \\frac{\\mathrm{relu}(q_i) \\sum_j \\mathrm{relu}(k_j)^T v_j}
        {\\mathrm{relu}(q_i) \\sum_j \\mathrm{relu}(k_j)^T + 10^{-15}}, \\qquad
        y = \\mathrm{BN}(W_o [o^{(0)}, o^{(s)} \\ldots])

    [q, k, v] come from a 1x1 convolution, in the channel order q, k, v head by head. For each scale s there are as
    many heads again, of [q, k, v] after a depthwise s x s and a grouped 1x1 convolution (a group for q, k and v of each
    head). No convolution has a bias. Sums and quotient are taken at least in float32. timm's layer has an eps of 1e-5,
    which differs where maps are small. Residual belongs to the surrounding block.

    4 C² + 2 C, and C² + 3 C s² + 3 C² / heads for each scale, parameters.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        heads: Attention heads a scale; by default the largest count that leaves at least 16 channels a head, at most 8.
        scales: Odd sides s of the depthwise convolutions; none leaves plain linear attention.

    Raises:
        UnsupportedError: If `heads` does not divide C, or a scale is not odd.
    """

    def __init__(self, channels: int, *, heads: int | None = None, scales: tuple[int, ...] = (5,)) -> None:
        super().__init__()
        self.heads = choose_heads(channels, heads)
        if any(s < 1 or s % 2 == 0 for s in scales):
            raise UnsupportedError(f"scales are {scales}; they must be odd")
        wide = 3 * channels
        self.qkv = conv(2, channels, wide, bias=False)
        self.aggregate = nn.ModuleList(
            nn.Sequential(
                conv(2, wide, wide, s, groups=wide, bias=False), conv(2, wide, wide, groups=3 * self.heads, bias=False)
            )
            for s in scales
        )
        self.proj = nn.Sequential(conv(2, channels * (1 + len(scales)), channels, bias=False), batch_norm(2, channels))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        qkv = self.qkv(x)
        scaled = torch.cat([qkv, *(aggregate(qkv) for aggregate in self.aggregate)], dim=1)
        by_head = scaled.flatten(2).unflatten(1, (self.heads * (1 + len(self.aggregate)), -1))
        return self.proj(_attend(by_head).to(qkv.dtype).flatten(1, 2).unflatten(-1, x.shape[2:]))


def _attend(qkv: Tensor) -> Tensor:
    """`(B, heads, 3 D, N) -> (B, heads, D, N)`, at least in float32."""
    with full_precision(qkv):
        q, k, v = qkv.to(torch.promote_types(qkv.dtype, torch.float32)).chunk(3, dim=2)
        v = F.pad(v, (0, 0, 0, 1), value=1.0)  # a value of 1 for every position: its sum is the denominator
        out = (v @ k.relu().transpose(-1, -2)) @ q.relu()
        return out[:, :, :-1] / (out[:, :, -1:] + _EPS)
