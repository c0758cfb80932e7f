"""Adaptive token dictionary layer (Zhang et al., "Transcending the Limit of Local Window", CVPR 2024)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import choose_heads, merge_heads, split_heads
from nasbench.ops.nd import from_tokens, to_tokens
from nasbench.ops.offsets import offset_index
from nasbench.ops.windows import merge_windows, real_positions, split_windows

_MAX_SCALE = math.log(100.0)


@register_module(
    name="token_dictionary",
    properties=("globality", "sparsity"),
    paper="Zhang et al., Transcending the Limit of Local Window: Advanced Super-Resolution Transformer with Adaptive "
    "Token Dictionary, CVPR 2024, arXiv:2401.08209",
    space={"memory": (32, 64, 128), "window": (4, 8)},
    ranges={
        "memory": "at least 1",
        "heads": "at least 1",
        "window": "at least 1",
        "group": "at least 1",
        "rank": "at least 1",
    },
    dims=(2,),
)
class TokenDictionary(nn.Module):
    """Three attentions in parallel: to a learned dictionary, among similar tokens, and within windows.

    With N = LN(x), and [Q, K, V] = W N which the last two share,

    .. math:: y = x + \\underbrace{S\\, W_v D}_{\\text{dictionary}}
        + \\underbrace{\\mathrm{groups}(Q, K, V; \\arg\\max S)}_{\\text{alike}}
        + \\underbrace{\\mathrm{windows}(Q, K, V)}_{\\text{near}}, \\quad
        S = \\mathrm{softmax}_j\\big( \\cos(W_q N, W_k D_j)\\,(1 + \\mathrm{clip}(\\tau_j, 0, 1) \\ln M) \\big)

    Groups: tokens are sorted by their best dictionary entry with a stable sort and cut into groups of `group` tokens.
    Attention runs within each group, scaled by a learned factor (10 at the start, at most 100) instead of d^-½, and a
    projection follows. The last group is filled with a repetition of the last tokens, which take part in its softmax.

    Windows: attention runs within windows of `window` x `window` positions, with a learned bias by relative position,
    and a projection follows. Where the window does not divide the map, the padding is masked.

    This is the last layer of an ATD block without its feed-forward. The dictionary is not passed on, so it is not
    refined. Weights start from a normal distribution of standard deviation 0.02, which the scale of 10 needs.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        memory: Number M of tokens in the dictionary (64 in ATD-light, 128 in ATD).
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        window: Side of the windows.
        group: Number of tokens in a group. A smaller map is one group.
        rank: Width of the queries and keys that compare tokens with the dictionary.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(
        self,
        channels: int,
        *,
        memory: int = 64,
        heads: int | None = None,
        window: int = 8,
        group: int = 128,
        rank: int = 10,
    ) -> None:
        super().__init__()
        self.heads = choose_heads(channels, heads)
        self.window, self.group = window, group
        self.dictionary = nn.Parameter(torch.randn(memory, channels))
        self.sharpness = nn.Parameter(torch.full((memory,), 0.5))
        self.group_scale = nn.Parameter(torch.full((1, 1), math.log(10.0)))
        self.position = nn.Parameter(torch.zeros((2 * window - 1) ** 2, self.heads))
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.window_proj = nn.Linear(channels, channels)
        self.query = nn.Linear(channels, rank)
        self.key = nn.Linear(channels, rank)
        self.value = nn.Linear(channels, channels)
        self.group_proj = nn.Linear(channels, channels)
        self._reset()

    def _reset(self) -> None:
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        tokens = to_tokens(x)
        normed = self.norm(tokens)
        qkv = self.qkv(normed)
        similarity = self._similarity(normed)
        tokens = tokens + similarity @ self.value(self.dictionary)
        tokens = tokens + self._among_alike(qkv, similarity.argmax(dim=-1))
        return from_tokens(tokens, x.shape[2:]) + self._within_windows(from_tokens(qkv, x.shape[2:]))

    def _similarity(self, normed: Tensor) -> Tensor:
        """`(B, N, C) -> (B, N, M)`: the share of each dictionary entry in a token. Rows sum to one."""
        query = F.normalize(self.query(normed), dim=-1)
        key = F.normalize(self.key(self.dictionary), dim=-1)
        sharpness = 1 + self.sharpness.clamp(0, 1) * math.log(self.sharpness.shape[0])
        return (query @ key.T * sharpness).softmax(dim=-1)

    def _among_alike(self, qkv: Tensor, category: Tensor) -> Tensor:
        """`(B, N, 3C), (B, N) -> (B, N, C)`: attention in groups of tokens of similar category."""
        count = qkv.shape[1]
        size = min(count, self.group)
        # The position decides among equal categories. The order is that of a stable sort, which ONNX does not have.
        order = (category * count + torch.arange(count, device=category.device)).argsort(dim=1)
        sorted_qkv = _rows(qkv, order)
        missing = -count % size
        filled = torch.cat([sorted_qkv, sorted_qkv[:, count - missing :]], dim=1)
        groups = filled.unflatten(1, (-1, size)).flatten(0, 1)
        q, k, v = (split_heads(t, self.heads) for t in groups.chunk(3, dim=-1))
        q = q * self.group_scale.clamp(max=_MAX_SCALE).exp()
        mixed = merge_heads(F.scaled_dot_product_attention(q, k, v, scale=1.0))
        mixed = mixed.unflatten(0, (qkv.shape[0], (count + missing) // size)).flatten(1, 2)[:, :count]
        return self.group_proj(_rows(mixed, order.argsort(dim=1)))

    def _within_windows(self, qkv: Tensor) -> Tensor:
        """`(B, 3C, H, W) -> (B, C, H, W)`: attention within windows."""
        window, size = (self.window, self.window), qkv.shape[2:]
        q, k, v = (split_heads(t, self.heads) for t in split_windows(qkv, window).chunk(3, dim=-1))
        bias = self.position[offset_index(window, device=qkv.device)].permute(2, 0, 1)  # (heads, T, T)
        real = real_positions(size, window, device=qkv.device)[:, None, None]
        bias = bias.to(q.dtype).masked_fill(~real, float("-inf"))  # (windows, heads, T, T)
        # The heads take in the windows, because ONNX has attention with four axes only. Every item has the same bias.
        q, k, v = (t.flatten(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.flatten(0, 1))
        attended = merge_heads(mixed.unflatten(1, (-1, self.heads)))
        return merge_windows(self.window_proj(attended), window, size)


def _rows(x: Tensor, order: Tensor) -> Tensor:
    """Put the N rows of each batch item into the order given for this item: `(B, N, C), (B, N) -> (B, N, C)`.

    `torch.take_along_dim` would do the same, but it fixes the batch size of an export.
    """
    return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[2]))
