"""Convolutional self-attention (Li et al., LogTrans, NeurIPS 2019, and Guo et al., ASTGNN, TKDE 2021)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import from_tokens, to_tokens
from nasbench.ops.temporal import CausalConv1d


@register_module(
    name="conv_attention",
    properties=("locality", "globality"),
    paper="Li et al., Enhancing the Locality and Breaking the Memory Bottleneck of Transformer on Time Series "
    "Forecasting, NeurIPS 2019, arXiv:1907.00235; Guo et al., ASTGNN, TKDE 2021",
    space={"kernel": (3, 5, 9), "causal": (False, True)},
    ranges={"kernel": "at least 1", "heads": "at least 1"},
    dims=(1,),
    cost_order=2,
)
class ConvAttention(nn.Module):
    """Self-attention whose queries and keys see the shape of the series before them and not a single value.

    .. math:: Q = f_q \\star x,\\quad K = f_k \\star x,\\quad V = W_v x,\\qquad
              y = W_o\\, \\mathrm{MHA}(Q, K, V)

    f are causal convolutions of width w from all channels to all. Two points match if the trends that lead to them
    match. w = 1 is ordinary multi-head attention. All four maps have a bias: 2 (w + 1) C² + 4 C parameters. Norm and
    residual belong to the surrounding block.

    Shapes: `(B, C, L) -> (B, C, L)` for L time steps.

    Args:
        channels: Channels C.
        kernel: Width w of the convolutions. ASTGNN has 3, and LogTrans tries 1 to 9.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        causal: Whether position t attends only to positions up to t, as in LogTrans and in ASTGNN's decoder. The
            convolutions never see the future.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(self, channels: int, *, kernel: int = 3, heads: int | None = None, causal: bool = False) -> None:
        super().__init__()
        self.heads = choose_heads(channels, heads)
        self.causal = causal
        self.query = CausalConv1d(channels, channels, kernel)
        self.key = CausalConv1d(channels, channels, kernel)
        self.value = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        q, k, v = to_tokens(self.query(x)), to_tokens(self.key(x)), self.value(to_tokens(x))
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return from_tokens(self.proj(merge_heads(attended)), x.shape[2:])
