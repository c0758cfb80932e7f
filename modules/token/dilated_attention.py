"""Multi-scale dilated attention (Jiao et al., "DilateFormer: Multi-Scale Dilated Transformer", TMM 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.attention import choose_heads
from nasbench.ops.nd import conv, from_tokens
from nasbench.ops.windows import sliding_windows


@register_module(
    name="dilated_attention",
    properties=("locality", "sparsity", "multiscale"),
    paper="Jiao et al., DilateFormer: Multi-Scale Dilated Transformer for Visual Recognition, TMM 2023, "
    "arXiv:2302.01791",
    space={"dilations": ((1, 2), (1, 3))},
    ranges={"dilations": "1 or more values, at least 1", "heads": "at least 1", "kernel": "odd, at least 1"},
    dims=(2,),
    limits="the number of dilations must divide the channels; the default serves counts that 2 or 3 divides",
)
class DilatedAttention(nn.Module):
    """Attention of each position to 3x3 positions around it, with a dilation that differs among groups of heads.

    .. math:: [q, k, v] = W_{qkv} x, \\quad
        o_n = \\mathrm{softmax}(q_n\\, k_{R(n, \\delta)}^T / \\sqrt{d})\\, v_{R(n, \\delta)}, \\quad
        y = W_o [o^{(\\delta)}]_\\delta

    R(n, δ) are the positions of a sliding window around n at distances of δ. Keys and values beyond the edge are zeros
    and take part in the softmax. Each δ has an equal run of the channels of q, k and v. All projections have a bias:
    4 C² + 4 C parameters. Norm before and residual after belong to the surrounding block.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        channels: Channels C.
        dilations: Dilations δ, one for each group of heads. The default is (1, 2, 3) if 3 divides C, else (1, 2).
        heads: Attention heads, a multiple of the number of dilations. The default is the largest such divisor of C up
            to 8 that leaves at least 16 channels a head, else one head per dilation.
        kernel: Side of the window, odd.

    Raises:
        UnsupportedError: If the number of dilations does not divide C or `heads`, or `heads` does not divide C.
    """

    def __init__(
        self, channels: int, *, dilations: tuple[int, ...] | None = None, heads: int | None = None, kernel: int = 3
    ) -> None:
        super().__init__()
        if dilations is None:
            dilations = (1, 2, 3) if channels % 3 == 0 else (1, 2)
        self.dilations, self.kernel = tuple(dilations), kernel
        if channels % len(self.dilations):
            raise UnsupportedError(f"{channels} channels cannot be shared evenly by the dilations {self.dilations}")
        self.head_dim = channels // choose_heads(channels, heads, multiple=len(self.dilations))
        self.qkv = conv(2, channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        groups = (t.chunk(len(self.dilations), dim=1) for t in self.qkv(x).chunk(3, dim=1))
        attended = [self._attend(q, k, v, d) for q, k, v, d in zip(*groups, self.dilations, strict=True)]
        return from_tokens(self.proj(torch.cat(attended, dim=-1)), x.shape[2:])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, dilation: int) -> Tensor:
        """Three maps `(B, C', H, W) -> (B, H·W, C')`: attention within the windows of one dilation."""
        q = q.flatten(2).unflatten(1, (-1, self.head_dim)).permute(0, 1, 3, 2).unsqueeze(3)  # (B, heads, N, 1, D)
        k, v = (
            sliding_windows(t, self.kernel, dilation).unflatten(1, (-1, self.head_dim)).permute(0, 1, 4, 3, 2)
            for t in (k, v)
        )  # (B, heads, N, K, D)
        # The batch takes in the heads, because ONNX has attention with four axes only.
        queries, keys, values = (t.flatten(0, 1) for t in (q, k, v))
        attended = F.scaled_dot_product_attention(queries, keys, values).unflatten(0, q.shape[:2])
        return attended.squeeze(3).transpose(1, 2).flatten(2)
