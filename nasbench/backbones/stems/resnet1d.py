"""The residual network for time series of Wang et al. (IJCNN 2017, arXiv:1611.06455)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from nasbench.backbones.stem_registry import register_stem, stage_slots
from nasbench.ops.series import shortened
from nasbench.ops.valid_steps import StepNorm, SteppedConv, mean_valid, split_padding, zero_padded

__all__ = ["ResNet1d"]

_KERNELS = (8, 5, 3)
_WIDTHS = (64, 128, 128)


@register_stem("resnet1d")
class ResNet1d(nn.Module):
    """Three residual blocks of three convolutions each, mean pooling over time and one linear layer.

    .. math:: h_i = \\mathrm{relu}(\\mathrm{BN}(f_i \\star h_{i-1}))\\; (i = 1, 2),\\quad
              y = \\mathrm{relu}(\\mathrm{BN}(f_3 \\star h_2) + s(h_0))

    The shortcut s is a 1×1 convolution with batch norm where the width changes, and the identity elsewhere. An even
    kernel is padded with one step more at the end, as in the authors' code.

    Shapes: `(B, lookback, series) -> (B, num_classes)`. Slots: `stageK` after residual block K (each stage is one
    block). A slot's tensor has the shape `(B, width, lookback)`.

    Args:
        lookback: Number of input steps L. Kernels above it are shortened to it.
        series: Number of series D.
        num_classes: Number of classes.
        padded: Whether series can have fewer steps than `lookback`. Their other steps are NaN, and count in no
            convolution, norm or pool.
    """

    def __init__(self, lookback: int, series: int, num_classes: int, *, padded: bool = False) -> None:
        super().__init__()
        kernels = tuple(min(kernel, lookback) for kernel in _KERNELS)
        self.shortened = shortened("resnet1d", lookback, kernels=(_KERNELS, kernels))
        self.padded = padded
        self.blocks = nn.ModuleList(Block(a, b, kernels) for a, b in pairwise((series, *_WIDTHS)))
        self.head = nn.Linear(_WIDTHS[-1], num_classes)

    def host_slots(self) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        return stage_slots("blocks.{}", len(self.blocks), "NCL")

    def forward(self, x: Tensor) -> Tensor:
        """Classify series: `(B, lookback, series) -> (B, num_classes)`."""
        x, valid = split_padding(x) if self.padded else (x, None)
        x = x.transpose(1, 2).contiguous()
        for block in self.blocks:
            x = block(x, valid)
        return self.head(mean_valid(x, valid))


class Block(nn.Module):
    """Three convolutions with batch norm, and a shortcut: `(B, C, L) -> (B, C', L)`.

    Args:
        channels: Number of input channels C.
        width: Number of output channels C'.
        kernels: Numbers of taps of the convolutions.
    """

    def __init__(self, channels: int, width: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        ins = (channels, *(width for _ in kernels[1:]))
        self.convs = nn.ModuleList(SteppedConv(c, width, kernel) for c, kernel in zip(ins, kernels, strict=True))
        self.norms = nn.ModuleList(StepNorm(width) for _ in kernels)
        self.shortcut = SteppedConv(channels, width, 1) if channels != width else None
        self.shortcut_norm = StepNorm(width) if channels != width else None

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Convolve and add the shortcut. Padded steps of the result are zero."""
        x = zero_padded(x, valid)  # a module in the slot before can have filled them
        residual = x
        if self.shortcut is not None and self.shortcut_norm is not None:
            residual = self.shortcut_norm(self.shortcut(x), valid)
        *inner, last = zip(self.convs, self.norms, strict=True)
        for conv, norm in inner:
            x = zero_padded(norm(conv(x), valid).relu(), valid)
        conv, norm = last
        return zero_padded((norm(conv(x), valid) + residual).relu(), valid)
