"""External attention (Guo et al., "Beyond Self-attention: External Attention using Two Linear Layers", TPAMI 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import full_precision
from nasbench.ops.nd import batch_norm, conv, rectified

_EPS = 1e-9


@register_module(
    name="external_attention",
    properties=("globality",),
    paper="Guo et al., Beyond Self-attention: External Attention using Two Linear Layers for Visual Tasks, 2021, "
    "arXiv:2105.02358",
    space={"memory": (32, 64)},
    ranges={"memory": "at least 1"},
    dims=(1, 2),
)
class ExternalAttention(nn.Module):
    """Attention of N positions to S learned memory slots, which all images share: linear in N.

    .. math:: A = M_k W_1 x, \\quad \\hat A_{sn} = \\frac{e^{A_{sn}}}{\\sum_m e^{A_{sm}}}, \\quad
        \\bar A_{sn} = \\frac{\\hat A_{sn}}{10^{-9} + \\sum_t \\hat A_{tn}}, \\quad
        y = \\mathrm{relu}(x + \\mathrm{BN}(W_2 M_v \\bar A))

    The double normalisation first applies a softmax over the N positions for each slot, then makes the slots of each
    position sum to 1. W1 has a bias and W2 has none. M_k and M_v are two tensors. In the official code M_v begins as a
    view of M_k, so that training one trains both. 2 C² + 3 C + 2 C S parameters.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        memory: Number of memory slots S. The cost is linear in S.
    """

    def __init__(self, channels: int, *, dims: int = 2, memory: int = 64) -> None:
        super().__init__()
        self.conv1 = conv(dims, channels, channels)
        self.key_memory = nn.Conv1d(channels, memory, 1, bias=False)
        self.value_memory = nn.Conv1d(memory, channels, 1, bias=False)
        self.conv2 = nn.Sequential(conv(dims, channels, channels, bias=False), batch_norm(dims, channels))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`, without negative values."""
        attention = _double_normalise(self.key_memory(self.conv1(x).flatten(2)))
        read = self.value_memory(attention).reshape(x.shape)
        return rectified(x + self.conv2(read))


def _double_normalise(scores: Tensor) -> Tensor:
    """`(B, S, N) -> (B, S, N)`: softmax over N positions, then a sum of 1 over S slots, at least in float32."""
    with full_precision(scores):
        shares = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim=-1)
        return (shares / (_EPS + shares.sum(dim=1, keepdim=True))).to(scores.dtype)
