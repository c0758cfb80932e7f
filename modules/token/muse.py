"""Parallel multi-scale attention (Zhao et al., "MUSE", 2019, arXiv:1911.09483)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import from_tokens, to_tokens
from nasbench.ops.windows import sliding_windows

_KERNELS = {1: (3, 15), 2: (3, 5)}
_EXPANSION = 4


@register_module(
    name="muse",
    properties=("locality", "globality", "multiscale"),
    paper="Zhao et al., MUSE: Parallel Multi-Scale Attention for Sequence to Sequence Learning, 2019, arXiv:1911.09483",
    dims=(1, 2),
    cost_order=2,
    ranges={"heads": "at least 1", "kernels": "1 or more values, odd, at least 1"},
)
class Muse(nn.Module):
    """Attention, dynamic convolutions and a feed-forward network side by side: global, local and pointwise.

    .. math:: [q, k, v] = W_{qkv} x, \\quad D = \\sum_i \\mathrm{softmax}(g)_i\\, \\mathrm{dyn}_{k_i}(v), \\quad
        y = W_o [\\mathrm{MHA}(q, k, v), D] + W_2\\, \\mathrm{relu}(W_1 x)

    The dynamic convolution predicts its weights from the value at each position, k_i of them for each head, by a linear
    layer without bias. It normalises them by a softmax over the kernel. Positions beyond the edge are zero and keep
    their weight. All branches share one value projection. The gates g are parameters, equal at the start. W1 widens to
    4 C. Norm before and residual after belong to the surrounding block. With K the sum of the kernels' sizes (k_i, or
    k_i² in two dimensions) there are 13 C² + 9 C + C heads K parameters, and 1 more for each kernel.

    The paper is about sequences. In two dimensions the kernels are k_i x k_i windows.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions.

    Args:
        channels: Channels C.
        dims: Spatial dimensions, 1 or 2.
        heads: Heads of the attention and of the convolutions. The default is the largest divisor of C up to 8 that
            leaves at least 16 channels a head.
        kernels: Odd kernel sizes k_i. The default is (3, 15) in one dimension and (3, 5) in two.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(
        self, channels: int, *, dims: int = 2, heads: int | None = None, kernels: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        self.heads = choose_heads(channels, heads)
        self.kernels = _KERNELS[dims] if kernels is None else tuple(kernels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.weights = nn.ModuleList(nn.Linear(channels, self.heads * k**dims, bias=False) for k in self.kernels)
        self.gates = nn.Parameter(torch.full((len(self.kernels),), 1 / len(self.kernels)))
        self.proj = nn.Linear(2 * channels, channels)
        self.ffn = nn.Sequential(
            nn.Linear(channels, _EXPANSION * channels), nn.ReLU(), nn.Linear(_EXPANSION * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        tokens = to_tokens(x)
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        local = self._convolve(v, x.shape[2:])
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        mixed = torch.cat([merge_heads(F.scaled_dot_product_attention(q, k, v)), local], dim=-1)
        return from_tokens(self.proj(mixed) + self.ffn(tokens), x.shape[2:])

    def _convolve(self, v: Tensor, size: torch.Size) -> Tensor:
        """`(B, N, C) -> (B, N, C)` for N positions: the gated sum of the dynamic convolutions."""
        gates = self.gates.softmax(dim=0)
        values = from_tokens(v, size)
        out = torch.zeros_like(values).flatten(2)
        for gate, kernel, predict in zip(gates, self.kernels, self.weights, strict=True):
            seen = sliding_windows(values, kernel).unflatten(1, (self.heads, -1))  # (B, heads, C / heads, K, N)
            weights = predict(v).unflatten(-1, (self.heads, -1)).softmax(dim=-1)  # (B, N, heads, K)
            weights = (gate * weights).to(seen.dtype).permute(0, 2, 3, 1).unsqueeze(2)  # (B, heads, 1, K, N)
            out = out + (seen * weights).sum(dim=3).flatten(1, 2)
        return to_tokens(out)
