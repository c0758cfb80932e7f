"""Causal attention in windows of time (Liang et al., AirFormer, AAAI 2023, arXiv:2211.15979)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.windows import merge_windows, real_positions, split_windows


@register_module(
    name="window_attention",
    properties=("locality", "multiscale"),
    paper="Liang et al., AirFormer: Predicting Nationwide Air Quality in China with Transformers, AAAI 2023, "
    "arXiv:2211.15979",
    space={"window": (3, 6, 12, 24)},
    ranges={"window": "at least 1", "heads": "at least 1"},
    dims=(1,),
)
class WindowAttention(nn.Module):
    """Multi-head attention within windows of time that do not overlap, in each window to the past only (CT-MSA).

    .. math:: [q, k, v] = W_{qkv} x_w,\\qquad y_w = W_o\\, \\mathrm{MHA}_{s \\le t}(q, k, v)

    AirFormer doubles the window from block to block, up to the whole series (3, 6, 12 and 24 of 24 steps), and so sees
    several scales. For the same effect give each slot a window of its own. The windows are cut from each series
    separately. The last one is padded, and no real position sees the padding. The projection has a bias, but q, k and v
    have none: 4 C² + C parameters. Position embedding, norm, residual and FFN belong to the surrounding block.

    Shapes: `(B, C, L) -> (B, C, L)` for L time steps.

    Args:
        channels: Channels C.
        window: Number of positions in a window. A window longer than the series is the whole series.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        causal: Whether position t attends only to positions of its window up to t, and not to all of its window.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(self, channels: int, *, window: int = 6, heads: int | None = None, causal: bool = True) -> None:
        super().__init__()
        self.window = window
        self.heads = choose_heads(channels, heads)
        self.causal = causal
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        batch, size = x.shape[0], x.shape[2:]
        window = (min(self.window, size[0]),)
        tokens = split_windows(x, window).flatten(0, 1)  # (B n, T, C)
        q, k, v = (split_heads(t, self.heads) for t in self.qkv(tokens).chunk(3, dim=-1))
        if self.causal:  # the padding comes last, so it is in the future of every real position
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            real = real_positions(size, window, device=x.device).repeat(batch, 1)[:, None, None]
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=real)
        windows = self.proj(merge_heads(attended)).unflatten(0, (batch, -(-size[0] // window[0])))
        return merge_windows(windows, window, size)
