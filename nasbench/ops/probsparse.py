"""ProbSparse self-attention (Zhou et al., Informer, AAAI 2021, arXiv:2012.07436).

The module `probsparse_attention` and the forecasting backbone `informer` use it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.ops.attention import choose_heads, merge_heads, split_heads

__all__ = ["ProbSparseSelfAttention"]

_GOLDEN = 2654435769  # 2^32 divided by the golden ratio


class ProbSparseSelfAttention(nn.Module):
    """Self-attention over tokens in which only some queries attend.

    Only the queries whose attention weights are furthest from uniform attend. Each other query gets the mean of all
    values. If the layer is causal, it gets the sum of the values up to its position. The module `probsparse_attention`
    applies this layer to feature maps, and `nasbench show probsparse_attention` has the equations. Normalisation,
    residual connection and dropout belong to the surrounding block. The layer has 4 C² + 4 C parameters.

    Shapes: `(B, N, C) -> (B, N, C)` for N tokens.

    Args:
        channels: Number of channels C.
        factor: Sampling factor c. If c ⌈ln N⌉ >= N, this is full attention.
        heads: Number of attention heads. None means the default of `choose_heads`.
        causal: Whether position i attends only to positions up to i.
        dense: Whether to compute all N² products and read the sampled ones from them. The result is the same. The dense
            computation is faster for up to a few hundred positions, but its cost is no longer of order N log N.

    Raises:
        UnsupportedError: If `heads` does not divide C, or `factor` is below 1.
    """

    def __init__(
        self, channels: int, *, factor: int = 5, heads: int | None = None, causal: bool = False, dense: bool = False
    ) -> None:
        super().__init__()
        if factor < 1:
            raise UnsupportedError(f"factor is {factor}; it must be at least 1")
        self.factor, self.causal, self.dense = factor, causal, dense
        self.heads = choose_heads(channels, heads)
        self.query, self.key, self.value, self.proj = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, tokens: Tensor) -> Tensor:
        """`(B, N, C) -> (B, N, C)`."""
        q, k, v = (split_heads(f(tokens), self.heads) for f in (self.query, self.key, self.value))
        length = q.shape[2]
        # As in the official code, as many queries are chosen as keys are sampled for each query.
        count = min(max(self.factor * math.ceil(math.log(length)), 1), length)
        # The choice of queries is not differentiable, so the measurement needs no gradient.
        top = self._measure(q.detach(), k.detach(), count).topk(count, dim=2, sorted=False).indices  # (B, heads, u)
        rows = top[..., None].expand(-1, -1, -1, q.shape[3])
        attended = F.scaled_dot_product_attention(q.gather(2, rows), k, v, attn_mask=self._mask(top, length))
        rest = v.cumsum(dim=2) if self.causal else v.mean(dim=2, keepdim=True).expand_as(v)
        mixed = rest.to(attended.dtype).scatter(2, rows, attended)
        return self.proj(merge_heads(mixed))

    def _measure(self, q: Tensor, k: Tensor, count: int) -> Tensor:
        """Estimate from `count` sampled keys how far the attention of each query is from uniform.

        Shapes: queries and keys `(B, heads, N, C / heads)` give `(B, heads, N)`.
        """
        length = q.shape[2]
        sample = self._draw(length, count, q.device)
        if self.dense:
            products = (q @ k.transpose(2, 3)).gather(3, sample.expand(*q.shape[:2], -1, -1))  # (B, heads, N, U)
        else:
            products = (k[:, :, sample] @ q[..., None]).squeeze(-1)
        # As in the official code, the sum is divided by N (`length`), not by U (`count`).
        return products.amax(dim=3) - products.sum(dim=3) / length

    def _draw(self, length: int, count: int, device: torch.device) -> Tensor:
        """Return the keys sampled for each query: `(length, count)`, with repetition.

        In evaluation the keys come from a fixed golden-ratio sequence. It spreads each query's sample evenly over the
        keys.
        """
        if self.training:
            return torch.randint(length, (length, count), device=device)
        # The fractional parts of i / golden ratio, times 2^32.
        turn = torch.arange(length * count, device=device) * _GOLDEN & 0xFFFFFFFF
        return (turn * length >> 32).view(length, count)

    def _mask(self, top: Tensor, length: int) -> Tensor | None:
        """`(B, heads, u) -> (B, heads, u, N)`: True for the keys that a chosen query may attend to. None means all."""
        return torch.arange(length, device=top.device) <= top[..., None] if self.causal else None
