"""Multi-scale linear attention of EfficientViT (Cai et al., ICCV 2023, arXiv:2205.14756)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads, full_precision
from nasbench.ops.nd import batch_norm, conv

_EPS = 1e-15


@register_module(
    name="relu_linear_attention",
    properties=("locality", "globality", "multiscale"),
    paper="Cai et al., EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction, ICCV 2023, "
    "arXiv:2205.14756",
    space={"scales": ((5,), (3, 5))},
    ranges={"heads": "at least 1", "scales": "odd, at least 1"},
    dims=(2,),
)
class ReluLinearAttention(nn.Module):
    """Attention with the similarity relu(q) relu(k), whose keys and values are summed before the queries: linear in N.

    .. math:: o_i = \\frac{\\mathrm{relu}(q_i) \\sum_j \\mathrm{relu}(k_j)^T v_j}
        {\\mathrm{relu}(q_i) \\sum_j \\mathrm{relu}(k_j)^T + 10^{-15}}, \\qquad
        y = \\mathrm{BN}(W_o [o^{(0)}, o^{(s)} \\ldots])

    [q, k, v] come from a 1x1 convolution, in the channel order q, k, v head by head. Each scale s adds as many heads
    again, of [q, k, v] after a depthwise s x s and a grouped 1x1 convolution (a group each for q, k and v of a head).
    No convolution has a bias. Sums and quotient are computed at least in float32. timm's layer has an eps of 1e-5,
    which makes a difference on small maps. The residual belongs to the surrounding block.

    4 C² + 2 C parameters, and C² + 3 C s² + 3 C² / heads more for each scale.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        heads: Attention heads of each scale. The default is the largest divisor of C up to 8 that leaves at least 16
            channels a head.
        scales: Odd sides s of the depthwise convolutions. Without any it is plain linear attention.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(self, channels: int, *, heads: int | None = None, scales: tuple[int, ...] = (5,)) -> None:
        super().__init__()
        self.heads = choose_heads(channels, heads)
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
    """`(B, heads, 3 D, N) -> (B, heads, D, N)` for N positions and D channels a head, at least in float32."""
    with full_precision(qkv):
        q, k, v = qkv.to(torch.promote_types(qkv.dtype, torch.float32)).chunk(3, dim=2)
        v = F.pad(v, (0, 0, 0, 1), value=1.0)  # a further value of 1 at every position, whose sum is the denominator
        out = (v @ k.relu().transpose(-1, -2)) @ q.relu()
        return out[:, :, :-1] / (out[:, :, -1:] + _EPS)
