"""Layers for one or two dimensions, and conversion to tokens. With them, one module serves both dimensions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "at_least_float32",
    "avg_pool",
    "batch_norm",
    "conv",
    "default_heads",
    "from_tokens",
    "global_avg_pool",
    "global_max_pool",
    "groups_32",
    "max_pool",
    "rectified",
    "reduced",
    "same_padding",
    "to_tokens",
]

_CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
_NORM: dict[int, type[nn.BatchNorm1d] | type[nn.BatchNorm2d]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_AVG: dict[int, type[nn.AvgPool1d] | type[nn.AvgPool2d]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d}
_MAX: dict[int, type[nn.MaxPool1d] | type[nn.MaxPool2d]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d}


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor in float32, or in its own type if that is more precise. For losses and places in pixels."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def same_padding(kernel: int, dilation: int = 1) -> int:
    """Return the padding of each side with which an odd kernel at stride 1 keeps the length."""
    return dilation * (kernel - 1) // 2


def conv(
    dims: int,
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    padding: int | None = None,
) -> nn.Conv1d | nn.Conv2d:
    """Return a convolution over `(B, C, *S)` with `dims` spatial dimensions.

    If `padding` is None, the input is padded so that a stride of 1 keeps S.
    """
    pad = same_padding(kernel, dilation) if padding is None else padding
    return _CONV[dims](
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=pad,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )


def batch_norm(dims: int, channels: int, eps: float = 1e-5) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """Return a batch normalisation over `(B, C, *S)`."""
    return _NORM[dims](channels, eps=eps)


def avg_pool(dims: int, kernel: int) -> nn.Module:
    """Return an average pooling at stride 1 that keeps S. The zeros of the padding count in the average."""
    return _AVG[dims](kernel, stride=1, padding=kernel // 2)


def max_pool(dims: int, kernel: int) -> nn.Module:
    """Return a max pooling at stride 1 that keeps S."""
    return _MAX[dims](kernel, stride=1, padding=kernel // 2)


def global_avg_pool(x: Tensor) -> Tensor:
    """`(B, C, *S) -> (B, C, 1, ...)`: the mean over all positions. The spatial dimensions remain, with size 1."""
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool(x: Tensor) -> Tensor:
    """`(B, C, *S) -> (B, C, 1, ...)`: the maximum over all positions. The spatial dimensions remain, with size 1."""
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


def rectified(x: Tensor) -> Tensor:
    """Return relu(x), for the end of a module.

    Torch's relu needs its own result in the backward pass. A layer that comes next and works in place, such as
    `nn.ReLU(inplace=True)`, would destroy it. This one needs its input.
    """
    return F.threshold(x, 0.0, 0.0)


def to_tokens(x: Tensor) -> Tensor:
    """`(B, C, *S) -> (B, N, C)`, where N is the product of S."""
    return x.flatten(2).transpose(1, 2)


def from_tokens(tokens: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """`(B, N, C) -> (B, C, *size)`, where N is the product of `size`. This is the inverse of `to_tokens`."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *size)


def default_heads(channels: int, multiple: int = 1) -> int:
    """Return the largest number of heads, at most 8, that divides `channels` with at least 16 channels per head.

    Only multiples of `multiple` are considered. If none of them qualifies, the result is `multiple`.
    """
    fitting = (h for h in range(multiple, 9, multiple) if channels % h == 0 and channels // h >= 16)
    return max(fitting, default=multiple)


def groups_32(channels: int) -> int:
    """Return gcd(channels, 32).

    Use it as the number of groups where a paper has 32 groups, because C is not always a multiple of 32."""
    return math.gcd(channels, 32)


def reduced(channels: int, reduction: int) -> int:
    """Return the width of a bottleneck, which is `channels // reduction` but at least 1."""
    return max(1, channels // reduction)
