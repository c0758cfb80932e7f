"""Layers that the forecasting backbones share: instance normalisation, decomposition and patches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["InstanceNorm", "decompose", "forecast_normalised", "normalised", "patches", "short_patch", "shortened"]


class InstanceNorm(nn.Module):
    """Reversible instance normalisation (RevIN, Kim et al., ICLR 2022) without state between its two calls.

    Each window of each series is scaled to mean 0 and standard deviation 1 over its lookback. The forecast is scaled
    back.

    Args:
        series: Number of series D.
        affine: Whether to learn a scale and a shift for each series.
        eps: Number added to the variance before its square root is taken.
    """

    def __init__(self, series: int, *, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(series)) if affine else None
        self.bias = nn.Parameter(torch.zeros(series)) if affine else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, L, D) -> (B, L, D)` for L steps. Also return mean and standard deviation, `(B, 1, D)`, for `restore`."""
        # As in the authors' code, no gradient flows through the statistics, and `restore` adds eps² to the scale.
        mean = x.mean(dim=1, keepdim=True).detach()
        deviation = (x.var(dim=1, keepdim=True, unbiased=False) + self.eps).sqrt().detach()
        x = (x - mean) / deviation
        if self.weight is not None and self.bias is not None:
            x = x * self.weight + self.bias
        return x, mean, deviation

    def restore(self, y: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """Scale a forecast of H steps back to the units of the input: `(B, H, D) -> (B, H, D)`."""
        if self.weight is not None and self.bias is not None:
            y = (y - self.bias) / (self.weight + self.eps * self.eps)  # a learned weight can reach 0
        return y * deviation + mean


def forecast_normalised(norm: InstanceNorm | None, x: Tensor, forecast: Callable[[Tensor], Tensor]) -> Tensor:
    """Forecast from the normalised window and scale the forecast back.

    Shapes: `(B, L, D) -> (B, H, D)` for D series, L steps and a forecast of H steps.

    Args:
        norm: The normalisation. With None the window is used unchanged.
        x: The window.
        forecast: The function from a window to its forecast.
    """
    if norm is None:
        return forecast(x)
    x, mean, deviation = norm(x)
    return norm.restore(forecast(x), mean, deviation)


def normalised(norm: InstanceNorm | None, x: Tensor) -> Tensor:
    """Return the normalised window `(B, L, D)`, from which series are classified. With None it is used unchanged."""
    return x if norm is None else norm(x)[0]


def decompose(x: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
    """Split D series of L steps, `(B, D, L)`, into seasonal and trend parts of the same shape.

    The trend is a moving average of `kernel` steps (odd). Before this, the first and last value of each series are
    repeated, to extend the series at both ends. The seasonal part is the series minus the trend.
    """
    side = (kernel - 1) // 2
    trend = F.avg_pool1d(F.pad(x, (side, kernel - 1 - side), mode="replicate"), kernel, stride=1)
    return x - trend, trend


def patches(x: Tensor, length: int, stride: int) -> Tensor:
    """Cut D series of L steps into P patches each: `(B, D, L) -> (B, D, P, length)`.

    The last value of each series is first repeated `stride` times.
    """
    return F.pad(x, (0, stride), mode="replicate").unfold(-1, length, stride)


def short_patch(patch: int, steps: int) -> int:
    """Return the length of a patch with which a series has at least four, if it has four steps: `patch` or less."""
    return max(1, min(patch, steps // 4))


def shortened(name: str, steps: int, **lengths: tuple[object, object]) -> str:
    """Return a sentence about what a backbone shortens for series of few steps. "" if it shortens nothing.

    Args:
        name: Name of the backbone.
        steps: Number of steps of a series.
        lengths: For each hyper-parameter, its own value and the value for this number of steps.

    Example:
        >>> shortened("patchtst", 8, patch=(16, 2), layers=(3, 3))
        'patchtst: patch 16 becomes 2, because a series has 8 steps'
    """
    changed = [f"{key} {own} becomes {used}" for key, (own, used) in lengths.items() if own != used]
    return f"{name}: {', '.join(changed)}, because a series has {steps} steps" if changed else ""
