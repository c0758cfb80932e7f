"""HiLo attention (Pan et al., "Fast Vision Transformers with HiLo Attention", NeurIPS 2022, arXiv:2205.13213)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import default_heads, from_tokens, to_tokens
from nasbench.ops.windows import merge_windows, pad_to_windows, split_windows


@register_module(
    name="hilo_attention",
    properties=("locality", "globality"),
    paper="Pan et al., Fast Vision Transformers with HiLo Attention, NeurIPS 2022, arXiv:2205.13213",
    space={"window": (2, 4), "alpha": (0.25, 0.5)},
    ranges={"heads": "at least 1", "window": "at least 1", "alpha": "at least 0, at most 1"},
    dims=(2,),
    cost_order=2,
)
class HiLoAttention(nn.Module):
    """High frequencies by attention within small windows, and low ones by attention to the averages of the windows.

    .. math:: Y = [W_h\\, \\mathrm{MHA}_{\\text{each window}}(X),\\;
        W_l\\, \\mathrm{MHA}(q = X,\\; k = v = \\mathrm{avgpool}_s(X))]

    floor(α heads) of the heads are Lo-Fi, the others are Hi-Fi. Each kind has its own projections, with biases, from
    all C channels. A window of 1 makes all heads Lo-Fi, which is ordinary attention. The map is padded with zeros to
    whole windows. The zeros take part in the attention, as in the official code for dense prediction. The keys of Lo-Fi
    are N / s² positions, so the cost is quadratic with a small factor. Norm before and residual after belong to the
    surrounding block. With L Lo-Fi channels and h = C - L there are 3 C² + h² + L² + 4 C parameters.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head,
            but two or more if C has such a divisor, because a single head is Hi-Fi for any α below 1.
        window: Side s of the windows.
        alpha: Share α of the Lo-Fi heads, from 0 to 1.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(self, channels: int, *, heads: int | None = None, window: int = 2, alpha: float = 0.5) -> None:
        super().__init__()
        heads = choose_heads(channels, _default_heads(channels) if heads is None else heads)
        self.window = window
        self.low_heads = heads if window == 1 else int(alpha * heads)
        self.high_heads = heads - self.low_heads
        low = self.low_heads * channels // heads
        high = channels - low
        if low:
            self.l_q = nn.Linear(channels, low)
            self.l_kv = nn.Linear(channels, 2 * low)
            self.l_proj = nn.Linear(low, low)
        if high:
            self.h_qkv = nn.Linear(channels, 3 * high)
            self.h_proj = nn.Linear(high, high)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        parts = []
        if self.high_heads:
            parts.append(self._high(x))
        if self.low_heads:
            parts.append(self._low(x))
        return torch.cat(parts, dim=1)

    def _high(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, h, H, W)`: attention within each window."""
        window = (self.window, self.window)
        qkv = self.h_qkv(split_windows(x, window))
        # The batch takes in the windows, because ONNX has attention with four axes only.
        q, k, v = (split_heads(t.flatten(0, 1), self.high_heads) for t in qkv.chunk(3, dim=-1))
        attended = merge_heads(F.scaled_dot_product_attention(q, k, v)).unflatten(0, qkv.shape[:2])
        return merge_windows(self.h_proj(attended), window, x.shape[2:])

    def _low(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, L, H, W)`: attention of every position to the averages of the windows."""
        pooled = F.avg_pool2d(pad_to_windows(x, (self.window, self.window)), self.window)
        q = split_heads(self.l_q(to_tokens(x)), self.low_heads)
        k, v = (split_heads(t, self.low_heads) for t in self.l_kv(to_tokens(pooled)).chunk(2, dim=-1))
        attended = merge_heads(F.scaled_dot_product_attention(q, k, v))
        return from_tokens(self.l_proj(attended), x.shape[2:])


def _default_heads(channels: int) -> int:
    return next((h for h in range(max(2, default_heads(channels)), 9) if channels % h == 0), 1)
