"""Dual attention of Dual-ViT (Yao et al., "Dual Vision Transformer", TPAMI 2023, arXiv:2207.04976)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import from_tokens, to_tokens

_LAYER_SCALE = 1e-6


@register_module(
    name="dual_vit",
    properties=("globality",),
    paper="Yao et al., Dual Vision Transformer, TPAMI 2023, arXiv:2207.04976",
    space={"grid": (4, 7)},
    ranges={"heads": "at least 1", "grid": "at least 1"},
    dims=(2,),
)
class DualViT(nn.Module):
    """A few semantic tokens gather from the whole map, and each position attends only to the refined tokens.

    .. math::
        Z_0 &= \\mathrm{avgpool}_{7 \\times 7}(X) \\\\
        Z_1 &= Z_0 + \\gamma_1\\, \\mathrm{SA}(\\mathrm{LN}\\, Z_0) \\\\
        Z_2 &= Z_1 + \\gamma_2\\, \\mathrm{MHA}(q = W_z \\mathrm{LN}\\, Z_1,\\; [k, v] = W_x X) \\\\
        Z_3 &= Z_2 + \\gamma_3\\, \\mathrm{MLP}(\\mathrm{LN}\\, Z_2) \\\\
        Y &= W_o\\, \\mathrm{MHA}(q = W_q X,\\; [k, v] = W_{kv} \\mathrm{LN}\\, Z_3)

    SA is self-attention without an output projection. MLP is C -> 4C -> C with ReLU. The layer scales γ start at 1e-6.
    The semantic tokens come from adaptive pooling, so their number, and with it the cost per position, does not depend
    on the size. On a map smaller than the grid some of them coincide. Dual-ViT passes them from block to block. A
    module has one input and pools its own. Norm before and residual after belong to the surrounding block.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        grid: Side of the grid of semantic tokens, so that there are grid² of them.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(self, channels: int, *, heads: int | None = None, grid: int = 7) -> None:
        super().__init__()
        self.heads = choose_heads(channels, heads)
        self.grid = grid
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.semantic_q = nn.Linear(channels, channels)
        self.semantic_kv = nn.Linear(channels, 2 * channels)
        self.norm_q = nn.LayerNorm(channels)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, channels))
        self.norm_kv = nn.LayerNorm(channels)
        self.semantic_qkv = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, 3 * channels))
        self.gamma1, self.gamma2, self.gamma3 = (nn.Parameter(torch.full((channels,), _LAYER_SCALE)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        tokens = to_tokens(x)
        semantics = self._refine(to_tokens(F.adaptive_avg_pool2d(x, self.grid)), tokens)
        k, v = self.kv(self.norm_kv(semantics)).chunk(2, dim=-1)
        return from_tokens(self.proj(self._attend(self.q(tokens), k, v)), x.shape[2:])

    def _refine(self, semantics: Tensor, tokens: Tensor) -> Tensor:
        """`(B, K, C), (B, N, C) -> (B, K, C)`: K tokens attend to each other, then to N positions, then the MLP."""
        semantics = semantics + self.gamma1 * self._attend(*self.semantic_qkv(semantics).chunk(3, dim=-1))
        k, v = self.semantic_kv(tokens).chunk(2, dim=-1)
        semantics = semantics + self.gamma2 * self._attend(self.semantic_q(self.norm_q(semantics)), k, v)
        return semantics + self.gamma3 * self.mlp(self.norm_mlp(semantics))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """`(B, Nq, C), (B, Nk, C), (B, Nk, C) -> (B, Nq, C)`: multi-head attention without projections."""
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        return merge_heads(F.scaled_dot_product_attention(q, k, v))
