"""ProbSparse self-attention (Zhou et al., Informer, AAAI 2021, arXiv:2012.07436), by the module and the stem."""

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
    """Self-attention over tokens in which only the queries that are furthest from uniform attend.

    The equations stand with the module (`nasbench show probsparse_attention`), which is this layer on maps. Norm,
    residual and dropout belong to the surrounding block: 4 C² + 4 C parameters.

    Shapes: `(B, N, C) -> (B, N, C)`.

    Args:
        channels: Channels C.
        factor: c; from c ⌈ln N⌉ >= N on this is full attention.
        heads: Attention heads; None for the default of `choose_heads`.
        causal: Position i attends to positions up to i alone.
        dense: Make all N² products and read the sampled ones from them: the same result, faster up to a few hundred
            positions, but without the bound of N log N.

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
        count = min(max(self.factor * math.ceil(math.log(length)), 1), length)
        top = self._measure(q.detach(), k.detach(), count).topk(count, dim=2, sorted=False).indices  # (B, heads, u)
        rows = top[..., None].expand(-1, -1, -1, q.shape[3])
        attended = F.scaled_dot_product_attention(q.gather(2, rows), k, v, attn_mask=self._mask(top, length))
        rest = v.cumsum(dim=2) if self.causal else v.mean(dim=2, keepdim=True).expand_as(v)
        mixed = rest.to(attended.dtype).scatter(2, rows, attended)
        return self.proj(merge_heads(mixed))

    def _measure(self, q: Tensor, k: Tensor, count: int) -> Tensor:
        """`2 x (B, heads, N, D) -> (B, heads, N)`: how far each query's attention is from uniform, by `count` keys."""
        length = q.shape[2]
        sample = self._draw(length, count, q.device)
        if self.dense:
            products = (q @ k.transpose(2, 3)).gather(3, sample.expand(*q.shape[:2], -1, -1))  # (B, heads, N, U)
        else:
            products = (k[:, :, sample] @ q[..., None]).squeeze(-1)
        return products.amax(dim=3) - products.sum(dim=3) / length

    def _draw(self, length: int, count: int, device: torch.device) -> Tensor:
        """Return the keys sampled for each query: `(length, count)`, with repetition.

        The fixed draw is a golden-ratio sequence, which spreads each query's sample evenly over the keys.
        """
        if self.training:
            return torch.randint(length, (length, count), device=device)
        turn = torch.arange(length * count, device=device) * _GOLDEN & 0xFFFFFFFF
        return (turn * length >> 32).view(length, count)

    def _mask(self, top: Tensor, length: int) -> Tensor | None:
        """`(B, heads, u) -> (B, heads, u, N)`: True for the keys that the top queries may see; None for all."""
        return torch.arange(length, device=top.device) <= top[..., None] if self.causal else None
