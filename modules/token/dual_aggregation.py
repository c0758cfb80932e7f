"""Dual aggregation attention (Chen et al., "Dual Aggregation Transformer for Image Super-Resolution", ICCV 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import batch_norm, conv, from_tokens, global_avg_pool, reduced, to_tokens
from nasbench.ops.offsets import offset_index, window_offsets
from nasbench.ops.windows import merge_windows, split_windows


@register_module(
    name="dual_aggregation",
    properties=("locality", "globality"),
    paper="Chen et al., Dual Aggregation Transformer for Image Super-Resolution, ICCV 2023, arXiv:2308.03364",
    space={"kind": ("spatial", "channel")},
    ranges={"kind": ("spatial", "channel"), "heads": "at least 1", "window": "at least 1"},
    dims=(2,),
    limits="kind='spatial' needs an even channel count and an even number of heads",
)
class DualAggregation(nn.Module):
    """Attention and a parallel depthwise convolution of the same values, which weigh each other.

    With [Q, K, V] = W X, L = gelu(BN(dw3(V))), a channel map c(.) = σ(W2 gelu(BN(W1 GAP(.)))) of width C / 8 and a
    spatial map s(.) = σ(W4 gelu(BN(W3 .))) of width C / 16,

    .. math:: Y = W_o (A \\odot c(L) + L \\odot s(A)) \\text{ (spatial)}, \\qquad
        Y = W_o (A \\odot s(L) + L \\odot c(A)) \\text{ (channel)}

    Each branch receives the map that its own operator cannot make. For `kind="spatial"` A is attention within windows.
    One half of the channels and heads has h x w windows and the other half w x h ones. A small network computes a
    position bias from the offset. For `kind="channel"` A is attention among the channels of a head, over l2-normalised
    positions and with a learned temperature for each head.

    Windows that reach over the edge are padded with zeros after the projection, and those zeros take part in the
    softmax, as in the official code. There is no window shift. The position network is C / 32 wide, as in the official
    code, but at least 4. A layer norm over one feature passes nothing, and over two features only the sign of their
    difference, so that a narrower network would give nearly all offsets one bias. Norm and residual belong to the
    surrounding block, which alternates the two kinds.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`. Training needs two or more items in a batch, because pooled vectors are
    batch-normalised.

    Args:
        channels: Channels C.
        kind: "spatial" or "channel".
        heads: Attention heads, an even number for the spatial kind. The default is the largest such divisor of C up to
            8 that leaves at least 16 channels a head.
        window: Height and width of the windows of the spatial kind.

    Raises:
        UnsupportedError: If `heads` does not divide C, or C or `heads` is odd for the spatial kind.
    """

    def __init__(
        self,
        channels: int,
        *,
        kind: str = "spatial",
        heads: int | None = None,
        window: tuple[int, int] = (8, 16),
    ) -> None:
        super().__init__()
        if kind == "spatial" and channels % 2:
            raise UnsupportedError(f"channels is {channels}; kind='spatial' halves them, give an even count")
        heads = choose_heads(channels, heads, multiple=2 if kind == "spatial" else 1)
        self.kind = kind
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention = _WindowPair(channels, heads, window) if kind == "spatial" else _ChannelAttention(heads)
        self.local = nn.Sequential(conv(2, channels, channels, 3, groups=channels), batch_norm(2, channels), nn.GELU())
        self.channel_map = _bottleneck(channels, reduced(channels, 8), channels)
        self.spatial_map = _bottleneck(channels, reduced(channels, 16), 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        q, k, v = from_tokens(self.qkv(to_tokens(x)), x.shape[2:]).chunk(3, dim=1)
        attended, local = self.attention(q, k, v), self.local(v)
        if self.kind == "spatial":
            attended, local = attended * self._channel_gate(local), local * self._spatial_gate(attended)
        else:
            attended, local = attended * self._spatial_gate(local), local * self._channel_gate(attended)
        return from_tokens(self.proj(to_tokens(attended + local)), x.shape[2:])

    def _channel_gate(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, 1, 1)`, from 0 to 1."""
        return self.channel_map(global_avg_pool(x)).sigmoid()

    def _spatial_gate(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, 1, H, W)`, from 0 to 1."""
        return self.spatial_map(x).sigmoid()


class _WindowPair(nn.Module):
    """Attention in h x w windows for the first half of the channels and in w x h windows for the second half."""

    def __init__(self, channels: int, heads: int, window: tuple[int, int]) -> None:
        super().__init__()
        self.halves = nn.ModuleList(
            _WindowAttention(channels // 2, heads // 2, side) for side in (window, (window[1], window[0]))
        )

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Three maps `(B, C, H, W) -> (B, C, H, W)`."""
        parts = zip(*(t.chunk(2, dim=1) for t in (q, k, v)), strict=True)
        return torch.cat([half(*part) for half, part in zip(self.halves, parts, strict=True)], dim=1)


class _WindowAttention(nn.Module):
    """Multi-head attention within windows, with position biases computed from the offset (CrossFormer's network)."""

    def __init__(self, channels: int, heads: int, window: tuple[int, int]) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        width = max(4, channels // 4 // 4)  # a layer norm over two features passes no more than a sign
        self.position = nn.Sequential(
            nn.Linear(2, width), _layer(width, width), _layer(width, width), _layer(width, heads)
        )

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Three maps `(B, C, H, W) -> (B, C, H, W)`."""
        size = q.shape[2:]
        windows = split_windows(torch.cat([q, k, v], dim=1), self.window)
        parts = windows.flatten(0, 1).chunk(3, dim=-1)
        q, k, v = (split_heads(part, self.heads) for part in parts)  # (B * windows, heads, T, C / heads)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(q))
        return merge_windows(merge_heads(attended).unflatten(0, windows.shape[:2]), self.window, size)

    def _bias(self, like: Tensor) -> Tensor:
        """`(1, heads, T, T)`: the bias of each key for each query of a window with T positions."""
        dtype = next(self.parameters()).dtype
        biases = self.position(window_offsets(self.window, device=like.device).to(dtype))
        bias = biases[offset_index(self.window, device=like.device)]
        return bias.permute(2, 0, 1).unsqueeze(0).to(like.dtype)


class _ChannelAttention(nn.Module):
    """Attention among the channels of a head (cross-covariance attention, XCiT)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Three maps `(B, C, H, W) -> (B, C, H, W)`."""
        q, k, rows = (t.flatten(2).unflatten(1, (self.heads, -1)) for t in (q, k, v))  # (B, heads, C / heads, N)
        q = F.normalize(q, dim=-1) * self.temperature
        attended = F.scaled_dot_product_attention(q, F.normalize(k, dim=-1), rows, scale=1.0)
        return attended.reshape(v.shape)


def _bottleneck(channels: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv(2, channels, width), batch_norm(2, width), nn.GELU(), conv(2, width, outputs))


def _layer(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, outputs))
