"""Attention layers that modules share: splitting into heads, and the multi-head attention of the Transformer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.ops.nd import default_heads
from nasbench.ops.position import RelativeBias, sinusoidal

__all__ = [
    "POSITIONS",
    "CrossAttention",
    "MultiHeadSelfAttention",
    "choose_heads",
    "full_precision",
    "merge_heads",
    "split_heads",
]

POSITIONS = ("none", "sinusoidal", "relative")
"""The allowed values of `position` of a self-attention."""


def choose_heads(channels: int, heads: int | None = None, *, multiple: int = 1) -> int:
    """Return `heads` if it divides the channels, or `default_heads(channels, multiple)` for None.

    Args:
        channels: Number of channels C, which the heads share.
        heads: The number of heads that the user gave.
        multiple: The number of heads must be a multiple of this number.

    Raises:
        UnsupportedError: If `heads` does not divide C, or is not a positive multiple of `multiple`.
    """
    heads = default_heads(channels, multiple) if heads is None else heads
    if heads < 1 or channels % heads or heads % multiple:
        also = f" and be a multiple of {multiple}" if multiple > 1 else ""
        raise UnsupportedError(f"heads is {heads}; it must divide the {channels} channels{also}")
    return heads


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """`(..., N, C) -> (..., heads, N, C / heads)` for N tokens. Head i gets the i-th block of channels."""
    return tokens.unflatten(-1, (heads, -1)).transpose(-2, -3)


def merge_heads(tokens: Tensor) -> Tensor:
    """`(..., heads, N, D) -> (..., N, heads * D)` for N tokens with D channels a head. The inverse of `split_heads`."""
    return tokens.transpose(-2, -3).flatten(-2)


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Return a context that switches autocast off on the device of `x`.

    It is for sums and quotients that need more precision than bfloat16."""
    # autocast does not know the device type "meta".
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


class MultiHeadSelfAttention(nn.Module):
    """Multi-head self-attention over tokens (Vaswani et al., NeurIPS 2017), without norm and residual.

    .. math:: [q, k, v] = W_{qkv} (t + P), \\qquad y = W_o\\, \\mathrm{softmax}(q k^T / \\sqrt{d} + b)\\, v

    P is the sinusoidal encoding, and b is the learned bias of each offset. `position` chooses one of the two, or
    neither. All projections have a bias. There are 4 C² + 4 C parameters, besides b.

    Shapes: `(B, N, C) -> (B, N, C)` for N tokens.

    Args:
        channels: Number of channels C.
        dims: Number of spatial dimensions of the map from which the tokens come, 1 or 2.
        heads: Number of attention heads. None means the default of `choose_heads`.
        position: "none", "sinusoidal" (added to the tokens) or "relative" (a learned bias by offset and head).
        causal: Whether token i attends only to tokens 0 to i. The tokens of a two-dimensional map are counted row by
            row.

    Raises:
        UnsupportedError: If `heads` does not divide C, or `position` is not one of `POSITIONS`.
    """

    def __init__(
        self, channels: int, *, dims: int = 2, heads: int | None = None, position: str = "none", causal: bool = False
    ) -> None:
        super().__init__()
        if position not in POSITIONS:
            raise UnsupportedError(f"position is {position!r}; allowed: {', '.join(POSITIONS)}")
        self.heads = choose_heads(channels, heads)
        self.position = position
        self.causal = causal
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias = RelativeBias(self.heads, dims) if position == "relative" else None

    def forward(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """`(B, N, C) -> (B, N, C)`. `size` is the size S of the map, and N is the product of its sides."""
        if self.position == "sinusoidal":
            tokens = tokens + sinusoidal(size, tokens.shape[-1], device=tokens.device).to(tokens.dtype)
        q, k, v = (split_heads(t, self.heads) for t in self.qkv(tokens).chunk(3, dim=-1))
        if self.bias is None:
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask(self.bias(size))[None].to(q.dtype))
        return self.proj(merge_heads(attended))

    def _mask(self, bias: Tensor) -> Tensor:
        """`(heads, N, N) -> (heads, N, N)`: the bias, with -inf where a token must not attend to a key."""
        if not self.causal:
            return bias
        future = torch.ones(bias.shape[-2:], dtype=torch.bool, device=bias.device).triu(1)
        return bias.masked_fill(future, float("-inf"))


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to the tokens of another source (Vaswani et al., NeurIPS 2017).

    The layers of q, k and v and the output projection have a bias, which gives 4 C² + 4 C parameters. Normalisation and
    residual connection belong to the surrounding block.

    Shapes: N tokens `(*G, N, C)` and M tokens of the source `(*G, M, C)` to `(*G, N, C)`. G stands for any number of
    axes of groups. Each group attends only to its own source.

    Args:
        channels: Number of channels C.
        heads: Number of attention heads. They must divide C, or `width` if it is given.
        width: Number of channels of queries, keys and values. None means C.
    """

    def __init__(self, channels: int, heads: int, width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        inner = channels if width is None else width
        self.query, self.key, self.value = (nn.Linear(channels, inner) for _ in range(3))
        self.proj = nn.Linear(inner, channels)

    def forward(self, tokens: Tensor, source: Tensor, contents: Tensor | None = None) -> Tensor:
        """`(*G, N, C)` and `(*G, M, C)` to `(*G, N, C)`.

        The values come from `contents` `(*G, M, C)`, where it is given. So keys can have positions that values lack.
        """
        projected = (self.query(tokens), self.key(source), self.value(source if contents is None else contents))
        # Groups are merged with the batch, because the fused attention kernels take four axes.
        q, k, v = (split_heads(t.flatten(0, -3), self.heads) for t in projected)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.proj(merge_heads(attended)).unflatten(0, tokens.shape[:-2])
