"""ProbSparse attention (Zhou et al., Informer, AAAI 2021, arXiv:2012.07436)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import from_tokens, to_tokens
from nasbench.registry import register_module

_GOLDEN = 2654435769  # 2^32 divided by the golden ratio


@register_module(
    name="probsparse_attention",
    properties=("sparsity", "globality"),
    paper="Zhou et al., Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting, AAAI 2021, "
    "arXiv:2012.07436",
    space={"factor": (1, 3, 5)},
    dims=(1, 2),
)
class ProbSparseAttention(nn.Module):
    """Only the queries whose attention is far from uniform attend; the others take the mean of the values.

    .. math:: M(q_i) = \\max_{j \\in S_i} q_i k_j^T - \\frac{1}{N} \\sum_{j \\in S_i} q_i k_j^T,\\qquad
              y_i = \\begin{cases} \\mathrm{softmax}(q_i K^T / \\sqrt{d})\\, V & i \\in \\mathrm{top}_u(M) \\\\
              \\bar V & \\text{else} \\end{cases}

    S_i are U keys sampled for query i, with u = U = c ⌈ln N⌉, at least 1 and at most N: N log N operations and
    memory, in each head a choice of its own. As in the official code the sum is divided by N and not by U. In
    training S is drawn anew in each forward; in evaluation it is a fixed sequence that depends on N and U alone (a
    golden-ratio sequence, which spreads each query's sample evenly over the keys).

    With `causal` the top queries see the past alone and the others take the cumulative *sum* of the values (the
    official code's). The values of the future do not reach the output then, but which queries are at the top is still
    measured on sampled keys of the whole series.

    q, k, v and the projection have a bias: 4 C² + 4 C parameters. Norm and residual belong to the surrounding block.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions; two are read row by row.

    Args:
        channels: Channels C.
        factor: c; from c ⌈ln N⌉ >= N on this is full attention.
        heads: Attention heads; by default the largest count that leaves at least 16 channels a head, at most 8.
        causal: Position i attends to positions up to i alone.

    Raises:
        UnsupportedError: If `heads` does not divide C, or `factor` is below 1.
    """

    def __init__(
        self, channels: int, *, dims: int = 2, factor: int = 5, heads: int | None = None, causal: bool = False
    ) -> None:
        super().__init__()
        if factor < 1:
            raise UnsupportedError(f"factor is {factor}; it must be at least 1")
        self.factor, self.causal = factor, causal
        self.heads = choose_heads(channels, heads)
        self.query, self.key, self.value, self.proj = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        tokens = to_tokens(x)
        q, k, v = (split_heads(f(tokens), self.heads) for f in (self.query, self.key, self.value))
        length = q.shape[2]
        count = min(max(self.factor * math.ceil(math.log(length)), 1), length)
        top = self._measure(q.detach(), k.detach(), count).topk(count, dim=2, sorted=False).indices  # (B, heads, u)
        rows = top[..., None].expand(-1, -1, -1, q.shape[3])
        attended = F.scaled_dot_product_attention(q.gather(2, rows), k, v, attn_mask=self._mask(top, length))
        rest = v.cumsum(dim=2) if self.causal else v.mean(dim=2, keepdim=True).expand_as(v)
        mixed = rest.to(attended.dtype).scatter(2, rows, attended)
        return from_tokens(self.proj(merge_heads(mixed)), x.shape[2:])

    def _measure(self, q: Tensor, k: Tensor, count: int) -> Tensor:
        """`2 x (B, heads, N, D) -> (B, heads, N)`: how far each query's attention is from uniform, by `count` keys."""
        length = q.shape[2]
        sample = self._draw(length, count, q.device)
        products = (k[:, :, sample] @ q[..., None]).squeeze(-1)  # (B, heads, N, U)
        return products.amax(dim=3) - products.sum(dim=3) / length

    def _draw(self, length: int, count: int, device: torch.device) -> Tensor:
        """Return the keys sampled for each query: `(length, count)`, with repetition."""
        if self.training:
            return torch.randint(length, (length, count), device=device)
        turn = torch.arange(length * count, device=device) * _GOLDEN & 0xFFFFFFFF
        return (turn * length >> 32).view(length, count)

    def _mask(self, top: Tensor, length: int) -> Tensor | None:
        """`(B, heads, u) -> (B, heads, u, N)`: True for the keys that the top queries may see; None for all."""
        return torch.arange(length, device=top.device) <= top[..., None] if self.causal else None
