"""InceptionTime (Fawaz et al., Data Mining and Knowledge Discovery 2020, arXiv:1909.04939)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench.backbones.stem_registry import register_stem
from nasbench.errors import BackboneError
from nasbench.ops.series import shortened
from nasbench.ops.valid_steps import (
    StepNorm,
    SteppedConv,
    max_pool_valid,
    mean_valid,
    split_padding,
    zero_padded,
)

__all__ = ["InceptionTime"]

_MODULES = 3
"""Number of inception modules that one residual connection spans."""

_BRANCHES = 4


@register_stem("inception_time")
class InceptionTime(nn.Module):
    """Residual blocks of inception modules, mean pooling over time and one linear layer. This is one network.

    The paper averages five of them, trained with different seeds.

    .. math:: b = W_b x,\\quad
              m(x) = \\mathrm{relu}(\\mathrm{BN}([f_{40} \\star b,\\; f_{20} \\star b,\\; f_{10} \\star b,\\;
              W_m\\,\\mathrm{MaxPool}_3(x)])),\\quad
              z_{k+1} = \\mathrm{relu}(m_3(m_2(m_1(z_k))) + \\mathrm{BN}(W_k z_k))

    There is no bottleneck W_b if the input is a single series. No convolution has a bias. An even kernel is padded with
    one step more at the end, as in the authors' code.

    Shapes: `(B, lookback, series) -> (B, num_classes)`. Slots: `stageK` after residual block K, and `stageK.block1`,
    `stageK.block2` after its first and second inception module. `stageK.block3` is the place of `stageK`. A slot's
    tensor has the shape `(B, 4·filters, lookback)`. If `depth` is not a multiple of three, the last modules have no
    residual connection, and the last stage ends with them.

    Args:
        lookback: Number of input steps L.
        series: Number of series D.
        num_classes: Number of classes.
        filters: Number of channels of each of the four branches. It is 32 in the paper.
        kernel: Number of taps of the longest convolution. The others have a half and a quarter of it. It is 40 in the
            paper. If it is above the lookback, the lookback is used.
        depth: Number of inception modules. It is 6 in the paper.
        bottleneck: Number of channels of the bottlenecks. It is 32 in the paper.
        padded: Whether series can have fewer steps than `lookback`. Their other steps are NaN, and count in no
            convolution, norm or pool.

    Raises:
        BackboneError: If `kernel`, `filters`, `depth` or `bottleneck` is below 1.
    """

    def __init__(
        self,
        lookback: int,
        series: int,
        num_classes: int,
        *,
        filters: int = 32,
        kernel: int = 40,
        depth: int = 6,
        bottleneck: int = 32,
        padded: bool = False,
    ) -> None:
        super().__init__()
        if min(filters, kernel, depth, bottleneck) < 1:
            raise BackboneError("inception_time: filters, kernel, depth and bottleneck must be at least 1")
        kernels, own = (tuple(max(1, length // 2**i) for i in range(3)) for length in (min(kernel, lookback), kernel))
        self.shortened = shortened("inception_time", lookback, kernels=(own, kernels))
        self.padded = padded
        width = _BRANCHES * filters
        counts = [min(_MODULES, depth - start) for start in range(0, depth, _MODULES)]
        self.stages = nn.ModuleList(
            Stage(width if k else series, filters, kernels, bottleneck, count) for k, count in enumerate(counts)
        )
        self.head = nn.Linear(width, num_classes)

    def host_slots(self) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        places: dict[str, tuple[str, str]] = {}
        for k, stage in enumerate(self.stages):
            blocks = range(len(stage.blocks))  # type: ignore[arg-type]
            places |= {f"stage{k + 1}.block{j + 1}": (f"stages.{k}.blocks.{j}", "NCL") for j in blocks}
            # The last block of a stage ends after the residual connection, like the stage itself.
            places[f"stage{k + 1}.block{len(blocks)}"] = places[f"stage{k + 1}"] = (f"stages.{k}", "NCL")
        return places

    def forward(self, x: Tensor) -> Tensor:
        """Classify series: `(B, lookback, series) -> (B, num_classes)`."""
        x, valid = split_padding(x) if self.padded else (x, None)
        x = x.transpose(1, 2).contiguous()
        for stage in self.stages:
            x = stage(x, valid)
        return self.head(mean_valid(x, valid))


class Stage(nn.Module):
    """Inception modules, with a residual connection if there are three: `(B, C, L) -> (B, 4·filters, L)`.

    Args:
        channels: Number of input channels C.
        filters: Number of channels of each branch.
        kernels: Numbers of taps of the three convolutions.
        bottleneck: Number of channels of the bottlenecks.
        count: Number of modules, 1 to 3.
    """

    def __init__(self, channels: int, filters: int, kernels: tuple[int, ...], bottleneck: int, count: int) -> None:
        super().__init__()
        width = _BRANCHES * filters
        self.blocks = nn.ModuleList(
            InceptionModule(width if j else channels, filters, kernels, bottleneck) for j in range(count)
        )
        self.shortcut = SteppedConv(channels, width, 1, bias=False) if count == _MODULES else None
        self.norm = StepNorm(width) if count == _MODULES else None

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Run the modules and add the shortcut. Padded steps of the result are zero."""
        residual = zero_padded(x, valid)
        for block in self.blocks:
            x = block(x, valid)
        if self.shortcut is None or self.norm is None:
            return x
        return zero_padded((x + self.norm(self.shortcut(residual), valid)).relu(), valid)


class InceptionModule(nn.Module):
    """Three convolutions of different lengths and a max pool side by side: `(B, C, L) -> (B, 4·filters, L)`.

    Args:
        channels: Number of input channels C.
        filters: Number of channels of each branch.
        kernels: Numbers of taps of the three convolutions.
        bottleneck: Number of channels of the bottleneck. There is none if C is 1.
    """

    def __init__(self, channels: int, filters: int, kernels: tuple[int, ...], bottleneck: int) -> None:
        super().__init__()
        narrow = bottleneck if channels > 1 else 1
        self.bottleneck = SteppedConv(channels, narrow, 1, bias=False) if channels > 1 else None
        self.convs = nn.ModuleList(SteppedConv(narrow, filters, kernel, bias=False) for kernel in kernels)
        self.after_pool = SteppedConv(channels, filters, 1, bias=False)
        self.norm = StepNorm(_BRANCHES * filters)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Run all branches. Padded steps of the result are zero."""
        x = zero_padded(x, valid)  # a module in the slot before can have filled them
        narrow = x if self.bottleneck is None else self.bottleneck(x)
        branches = [conv(narrow) for conv in self.convs]
        branches.append(self.after_pool(max_pool_valid(x, valid, 3)))
        return zero_padded(self.norm(torch.cat(branches, dim=1), valid).relu(), valid)
