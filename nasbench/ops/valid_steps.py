"""Series of unequal lengths in one batch: convolutions, norms and pools that leave padded steps out.

Everywhere `valid` has the shape `(B, 1, L)` and is False at padded steps. None means that no step is padded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["StepNorm", "SteppedConv", "max_pool_valid", "max_valid", "mean_valid", "split_padding", "zero_padded"]


def split_padding(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return series `(B, L, D)` with zeros instead of NaN, and which of their steps are valid, `(B, 1, L)`.

    A step is padded if any of its D values is NaN.
    """
    padded = x.isnan().any(dim=2)
    return x.masked_fill(padded[:, :, None], 0.0), ~padded[:, None]


def zero_padded(x: Tensor, valid: Tensor | None) -> Tensor:
    """Set the padded steps of a map `(B, C, L)` to zero."""
    return x if valid is None else x.masked_fill(~valid, 0.0)


def mean_valid(x: Tensor, valid: Tensor | None) -> Tensor:
    """Average a map over its valid steps: `(B, C, L) -> (B, C)`. Each item must have one or more."""
    if valid is None:
        return x.mean(dim=2)
    return zero_padded(x, valid).sum(dim=2) / valid.sum(dim=2)


def max_valid(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return the maximum of a map over its valid steps: `(B, C, L) -> (B, C)`. Each item must have one or more."""
    return (x if valid is None else x.masked_fill(~valid, float("-inf"))).amax(dim=2)


def max_pool_valid(x: Tensor, valid: Tensor | None, kernel: int) -> Tensor:
    """Pool the valid steps of a map by their maximum at stride 1, with an odd kernel: `(B, C, L) -> (B, C, L)`."""
    if valid is None:
        return F.max_pool1d(x, kernel, stride=1, padding=kernel // 2)
    # The window of a valid step contains this step, so only padded steps keep the infinity.
    pooled = F.max_pool1d(x.masked_fill(~valid, float("-inf")), kernel, stride=1, padding=kernel // 2)
    return zero_padded(pooled, valid)


class SteppedConv(nn.Conv1d):
    """A convolution that keeps the length for odd and even kernels: `(B, C, L) -> (B, C', L)`.

    With an even kernel, one step more is padded at the end than at the start, as in Keras.

    Args:
        in_channels: Number of input channels C.
        out_channels: Number of output channels C'.
        kernel: Number of taps.
        bias: Whether to add a bias.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=(kernel - 1) // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve. Padded steps must be zero, as the steps beyond both ends are."""
        return super().forward(x if self.kernel_size[0] % 2 else F.pad(x, (0, 1)))


class StepNorm(nn.BatchNorm1d):
    """Batch normalisation whose statistics leave padded steps out: `(B, C, L) -> (B, C, L)`.

    Args:
        channels: Number of channels C.
        eps: Number added to the variance before its square root is taken.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise. In training, the mean and variance of a batch are those of its valid steps."""
        if valid is None or not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        weights, values = valid.float(), x.float()  # as in torch, statistics are not computed in half precision
        count = weights.sum()
        mean = (values * weights).sum(dim=(0, 2)) / count
        centred = (values - mean[:, None]) * weights
        variance = centred.square().sum(dim=(0, 2)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = self.momentum or 0.0
            # torch keeps the unbiased variance, but normalises by the biased one.
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        return ((values - mean[:, None]) * scale[:, None] + self.bias[:, None]).to(x.dtype)
