"""Convolutions over time that do not see the future, for temporal modules and forecasting backbones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CausalConv1d", "DilatedInception", "side_by_side"]


class CausalConv1d(nn.Conv1d):
    """A convolution whose output at t depends only on the input at t, t - d, ..., t - (k - 1) d.

    The input before the first step counts as zero.

    Shapes: `(B, C_in, L) -> (B, C_out, L)` for L steps. The parameters are those of `nn.Conv1d`, including the bias.

    Args:
        in_channels: Number of channels of the input.
        out_channels: Number of channels of the output.
        kernel: Number of taps k.
        dilation: Distance d between two taps.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, dilation: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, dilation=dilation)
        self.past = (kernel - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C_in, L) -> (B, C_out, L)`."""
        return super().forward(F.pad(x, (self.past, 0)))


class DilatedInception(nn.Module):
    """Dilated convolutions of several lengths, with their outputs concatenated (MTGNN).

    At each output step, all convolutions end at the same input step. Nothing is padded. The longest kernel determines
    the length of the result, T' = T - (max(kernels) - 1) dilation. The shorter kernels do not use the start of the
    input. The output channels are divided evenly among the kernels, and the first kernels get the remainder. Each
    convolution has a bias.

    Shapes: `(B, C_in, T) -> (B, C_out, T')` for T steps. With two dimensions, for D series:
    `(B, C_in, D, T) -> (B, C_out, D, T')`. The convolutions run along time only.

    Args:
        in_channels: Number of channels C_in.
        out_channels: Number of channels C_out.
        kernels: Length of each convolution.
        dilation: Distance between two taps.
        dims: 1, or 2 if the input has an axis of series before the axis of time.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernels: Sequence[int], dilation: int = 1, *, dims: int = 1
    ) -> None:
        super().__init__()
        share, rest = divmod(out_channels, len(kernels))
        widths = [share + (i < rest) for i in range(len(kernels))]
        parts = [(width, kernel) for width, kernel in zip(widths, kernels, strict=True) if width]
        # `side_by_side` reads these attributes, because it runs the convolutions of two layers itself.
        self.dilation = (dilation,) if dims == 1 else (1, dilation)
        self.unused = [(max(kernels) - kernel) * dilation for _, kernel in parts]
        self.branches = nn.ModuleList(
            nn.Conv1d(in_channels, width, kernel, dilation=dilation)
            if dims == 1
            else nn.Conv2d(in_channels, width, (1, kernel), dilation=(1, dilation))
            for width, kernel in parts
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C_in, ..., T) -> (B, C_out, ..., T')`."""
        parts = [branch(x[..., unused:]) for branch, unused in zip(self.branches, self.unused, strict=True)]
        return torch.cat(parts, dim=1)


def side_by_side(first: DilatedInception, second: DilatedInception, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `first(x)` and `second(x)`, faster than two calls.

    Both layers must have been built with the same arguments. The two convolutions of each kernel run as one. A
    convolution with few channels does not fully use the device, so a convolution with twice as many channels takes
    little longer.
    """
    convolve = F.conv1d if x.ndim == 3 else F.conv2d
    ones, twos = [], []
    for a, b, unused in zip(first.branches, second.branches, first.unused, strict=True):
        weight, bias = (torch.cat(both) for both in zip(a.parameters(), b.parameters(), strict=True))
        one, two = convolve(x[..., unused:], weight, bias, dilation=first.dilation).chunk(2, dim=1)
        ones.append(one)
        twos.append(two)
    return torch.cat(ones, dim=1), torch.cat(twos, dim=1)
