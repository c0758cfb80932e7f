"""The Transformer block of BERT, GPT and ViT (Vaswani et al., "Attention Is All You Need", NeurIPS 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import MultiHeadSelfAttention
from nasbench.ops.nd import from_tokens, to_tokens

_EXPANSION = 4


@register_module(
    name="transformer_block",
    properties=("globality",),
    paper="Vaswani et al., Attention Is All You Need, NeurIPS 2017, arXiv:1706.03762",
    space={"norm": ("pre", "post")},
    ranges={"heads": "at least 1", "norm": ("pre", "post")},
    dims=(1, 2),
    cost_order=2,
)
class TransformerBlock(nn.Module):
    """Self-attention followed by a feed-forward network, each with norm and residual.

    .. math:: h = x + \\mathrm{MHA}(\\mathrm{LN}(x)), \\quad y = h + \\mathrm{FFN}(\\mathrm{LN}(h)) \\text{ (pre)},
        \\qquad h = \\mathrm{LN}(x + \\mathrm{MHA}(x)), \\quad y = \\mathrm{LN}(h + \\mathrm{FFN}(h)) \\text{ (post)}

    with FFN(t) = W2 gelu(W1 t), 4 C wide, and the exact GELU. `norm="pre"` is ViT's block (Dosovitskiy et al., 2021),
    and with `causal=True` it is GPT-2's (Radford et al., 2019). `norm="post"` is BERT's (Devlin et al., 2019). The eps
    of the norms is theirs: 1e-6, 1e-5 and 1e-12. All layers have a bias: 12 C² + 13 C parameters. The host adds the
    positions.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions. A map is read row by row.

    Args:
        channels: Channels C.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        norm: "pre" (before each part) or "post" (after each sum).
        causal: Whether each position attends only to itself and earlier ones.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(self, channels: int, *, heads: int | None = None, norm: str = "pre", causal: bool = False) -> None:
        super().__init__()
        self.pre = norm == "pre"
        eps = 1e-12 if not self.pre else 1e-5 if causal else 1e-6
        self.norm1 = nn.LayerNorm(channels, eps=eps)
        self.attention = MultiHeadSelfAttention(channels, heads=heads, causal=causal)
        self.norm2 = nn.LayerNorm(channels, eps=eps)
        self.ffn = nn.Sequential(
            nn.Linear(channels, _EXPANSION * channels), nn.GELU(), nn.Linear(_EXPANSION * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        size, tokens = x.shape[2:], to_tokens(x)
        if self.pre:
            tokens = tokens + self.attention(self.norm1(tokens), size)
            tokens = tokens + self.ffn(self.norm2(tokens))
        else:
            tokens = self.norm1(tokens + self.attention(tokens, size))
            tokens = self.norm2(tokens + self.ffn(tokens))
        return from_tokens(tokens, size)
