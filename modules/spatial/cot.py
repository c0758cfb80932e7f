"""Contextual transformer (Li et al., "Contextual Transformer Networks for Visual Recognition", arXiv:2107.12292)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.nd import batch_norm, conv, global_avg_pool
from nasbench.ops.windows import sliding_windows

_KERNEL = 3
_SHARED = 8  # channels that share one plane of weights
_GROUPS = 4  # of the convolution that makes the static context


@register_module(
    name="cot",
    properties=("locality",),
    paper="Li et al., Contextual Transformer Networks for Visual Recognition, 2021, arXiv:2107.12292",
    dims=(2,),
    limits="channels must be a multiple of 8",
)
class ContextualTransformer(nn.Module):
    """Weigh the 3x3 neighbourhood of every position by weights from its value and its static context.

    .. math::
        k &= \\mathrm{relu}(\\mathrm{BN}(\\mathrm{conv}_{3 \\times 3}(x))), \\quad v = \\mathrm{BN}(W_v x), \\quad
        w = \\mathrm{GN}(W_2\\, \\mathrm{relu}(\\mathrm{BN}(W_1 [x, k]))) \\\\
        d_c(p) &= \\mathrm{SiLU}(\\mathrm{BN}(\\textstyle\\sum_t w_{c \\bmod C/8,\\, t}(p)\\, v_c(p + t))) \\\\
        y &= a_0 \\odot d + a_1 \\odot k, \\quad a = \\mathrm{softmax}(U_2\\, \\mathrm{relu}(\\mathrm{BN}(U_1\\,
        \\mathrm{GAP}(d + k))))

    The 9 weights of a plane are normalised together by GN and not by a softmax. The convolution has 4 groups. W_1 maps
    2C to C/2, and U_1 maps C to max(C/2, 32). W_2, U_1 and U_2 have biases. 26,744 parameters at C = 64.

    Shapes: `(B, C, H, W) -> (B, C, H, W)`. Training needs two or more items in a batch, because one BN sees only the
    pooled vector.

    Args:
        channels: Channels C, a multiple of 8.

    Raises:
        UnsupportedError: If C is not a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % _SHARED:
            raise UnsupportedError(f"channels must be a multiple of {_SHARED}, got {channels}")
        self.planes = channels // _SHARED
        taps = _KERNEL**2
        self.static = nn.Sequential(
            conv(2, channels, channels, _KERNEL, groups=_GROUPS, bias=False), batch_norm(2, channels), nn.ReLU()
        )
        self.weigh = nn.Sequential(
            conv(2, 2 * channels, channels // 2, bias=False),
            batch_norm(2, channels // 2),
            nn.ReLU(),
            conv(2, channels // 2, taps * self.planes),
            nn.GroupNorm(self.planes, taps * self.planes),
        )
        self.value = nn.Sequential(conv(2, channels, channels, bias=False), batch_norm(2, channels))
        self.after = nn.Sequential(batch_norm(2, channels), nn.SiLU())
        width = max(channels // 2, 32)
        self.select = nn.Sequential(
            conv(2, channels, width), batch_norm(2, width), nn.ReLU(), conv(2, width, 2 * channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        static = self.static(x)
        dynamic = self.after(self._aggregate(self.value(x), self.weigh(torch.cat([x, static], dim=1))))
        logits = self.select(global_avg_pool(dynamic + static)).unflatten(1, (-1, 2))  # (B, C, 2, 1, 1)
        shares = logits.softmax(dim=2).to(x.dtype)
        return dynamic * shares[:, :, 0] + static * shares[:, :, 1]

    def _aggregate(self, value: Tensor, weights: Tensor) -> Tensor:
        """`(B, C, H, W)`, `(B, 9 planes, H, W) -> (B, C, H, W)`: channel c is weighed by plane c mod planes."""
        taps = sliding_windows(value, _KERNEL).unflatten(1, (_SHARED, self.planes))  # (B, 8, planes, 9, N)
        weights = weights.flatten(2).unflatten(1, (1, self.planes, -1))
        return (taps * weights).sum(dim=3).reshape_as(value)
