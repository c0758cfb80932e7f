"""Convolution over time that sees no future: shared by temporal modules and forecasting stems."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CausalConv1d"]


class CausalConv1d(nn.Conv1d):
    """A convolution whose output at t depends on the input at t, t - d, ..., t - (k - 1) d; zeros before the start.

    Shapes: `(B, C_in, L) -> (B, C_out, L)`. Its parameters are those of `nn.Conv1d`, bias included.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Taps k.
        dilation: Distance d between two taps.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, dilation: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, dilation=dilation)
        self.past = (kernel - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C_in, L) -> (B, C_out, L)`."""
        return super().forward(F.pad(x, (self.past, 0)))
