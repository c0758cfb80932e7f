"""Cross-attention of one map to another (Li et al., ALBEF, NeurIPS 2021, and Li et al., BLIP, ICML 2022)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from nasbench import register_module
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import from_tokens, to_tokens


@register_module(
    name="cross_attention",
    kind="fusion",
    properties=("globality",),
    cost_order=2,
    paper="Li et al., Align before Fuse (ALBEF), NeurIPS 2021, arXiv:2107.07651; "
    "Li et al., BLIP, ICML 2022, arXiv:2201.12086",
    space={"norm": ("post", "pre")},
    ranges={"heads": "at least 1", "norm": ("post", "pre")},
)
class CrossAttention(nn.Module):
    """Every position of `a` queries all positions of `b`, and the answer is added to `a`.

    .. math:: \\mathrm{post:}\\ y &= \\mathrm{LN}(a + W_o\\, \\mathrm{MHA}(W_q a, W_k b, W_v b)) \\\\
              \\mathrm{pre:}\\ y &= a + W_o\\, \\mathrm{MHA}(W_q a', W_k b', W_v b'),\\quad
              a' = \\mathrm{LN}(a),\\ b' = \\mathrm{LN}(b)

    Both papers fuse with BERT's block, whose norm follows the residual. That is the default, with BERT's epsilon of
    1e-12. In the papers `b` is already normalised by its own encoder, so it gets no norm. Post-norm rescales the map of
    the backbone from the first step on. `norm="pre"` leaves the path of `a` unchanged, which trains more easily inside
    a convolutional backbone. It also normalises `b`, because no layer before has done that.

    Shapes: two maps `(B, C, *S) -> (B, C, *S)`. `b` may have another S than `a`.

    Args:
        channels: Channels C.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        norm: "post" (BERT, ALBEF, BLIP) or "pre".

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(self, channels: int, *, heads: int | None = None, norm: str = "post") -> None:
        super().__init__()
        self.heads = choose_heads(channels, heads)
        self.query, self.key, self.value, self.project = (nn.Linear(channels, channels) for _ in range(4))
        pre = norm == "pre"
        self.norm_a = nn.LayerNorm(channels) if pre else nn.Identity()
        self.norm_b = nn.LayerNorm(channels) if pre else nn.Identity()
        self.norm = nn.Identity() if pre else nn.LayerNorm(channels, eps=1e-12)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two maps `(B, C, *S) -> (B, C, *S)`."""
        tokens, source = to_tokens(a), self.norm_b(to_tokens(b))
        projected = (self.query(self.norm_a(tokens)), self.key(source), self.value(source))
        q, k, v = (split_heads(t, self.heads) for t in projected)
        answer = scaled_dot_product_attention(q, k, v)
        return from_tokens(self.norm(tokens + self.project(merge_heads(answer))), a.shape[2:])
