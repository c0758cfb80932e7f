"""Multi-head self-attention (Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import POSITIONS, MultiHeadSelfAttention
from nasbench.ops.nd import from_tokens, to_tokens


@register_module(
    name="self_attention",
    properties=("globality",),
    paper="Vaswani et al., Attention Is All You Need, NeurIPS 2017, arXiv:1706.03762",
    space={"position": POSITIONS},
    ranges={"heads": "at least 1", "position": POSITIONS},
    dims=(1, 2),
    cost_order=2,
)
class SelfAttention(nn.Module):
    """Attention of every position to all positions, with a norm before it and a residual.

    .. math:: [q, k, v] = W_{qkv} (\\mathrm{LN}(x) + P), \\qquad
        y = x + W_o\\, \\mathrm{softmax}(q k^T / \\sqrt{C / \\mathrm{heads}} + b)\\, v

    All projections have a bias: 4 C² + 6 C parameters without b.

    P is present for `position="sinusoidal"`. Channel 2i of position p is sin(p / 10000^(2i / C)), and channel 2i + 1 is
    the cosine. On a map the first half of the channels encodes the row in this way and the second half the column. b is
    present for `position="relative"`. It is one learned number for each head and offset. It is stored for a map with
    sides of 7 positions, (2 * 7 - 1)^dims numbers for each head, and interpolated to the size of the actual map.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions. A map is read row by row.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        position: "none", "sinusoidal" or "relative".
        causal: Whether each position attends only to itself and earlier ones.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(
        self, channels: int, *, dims: int = 2, heads: int | None = None, position: str = "none", causal: bool = False
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = MultiHeadSelfAttention(channels, dims=dims, heads=heads, position=position, causal=causal)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        size = x.shape[2:]
        return x + from_tokens(self.attention(self.norm(to_tokens(x)), size), size)
