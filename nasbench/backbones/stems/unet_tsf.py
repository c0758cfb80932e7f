"""UnetTSF (Chu et al., "A Better Performance Linear Complexity Time Series Prediction Model", 2024)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from nasbench.backbones.stem_registry import register_stem
from nasbench.errors import BackboneError
from nasbench.ops.series import InstanceNorm, forecast_normalised, normalised

__all__ = ["UnetTSF"]


@register_stem("unet_tsf")
class UnetTSF(nn.Module):
    """A pyramid of pooled windows with a linear forecast from each level, merged from the coarsest to the finest.

    .. math:: x_1 = x,\\quad x_{k+1} = \\mathrm{AvgPool}(x_k),\\quad f_k = W_k x_k,\\qquad
              m_K = f_K,\\quad m_k = V_k [f_k, m_{k+1}],\\quad y = m_1

    Level k forecasts at its own resolution. From level to level, the forecast gets shorter in the same way as the
    window: pooling turns n steps into ⌊(n - kernel) / stride⌋ + 1 steps. A forecast has at least one step. V_k restores
    the length of level k. Every layer is linear, so the backbone is one linear function, of which it learns a
    factorisation. A level is added only if the window of the level before it has at least `kernel` steps. So a short
    lookback has fewer levels.

    Shapes: `(B, lookback, series) -> (B, horizon, series)`. Each series is forecast from itself alone. Slots: `stage1`
    to `stageK`, one for each level. `stage1` is on the window itself. A slot's tensor has the shape
    `(B, series, steps)`, with the series as channels. The output of a slot goes into the level's forecast and into the
    pooling of the next level.

    Source: Chu, Xiao, Yuan, arXiv:2401.03001 (2024) and its code. The code also builds normalisation layers that it
    never runs, and pools one more level than it uses. Both are left out here.

    Args:
        lookback: Number of input steps L.
        horizon: Number of forecast steps H. None to classify.
        series: Number of series D.
        levels: Largest number of levels K. The authors' code uses 3 for ETTh1 and 4 for the other data sets.
        kernel: Number of steps over which the pooling averages.
        stride: Number of steps between the starts of two neighbouring averages.
        individual: Whether to give each series its own weights, as the authors' scripts do. If not, all series share
            their weights.
        dropout: Dropout rate on each level's forecast. The paper uses no dropout.
        instance_norm: Whether to normalise each window (RevIN), as the paper does.
        num_classes: Number of classes, instead of a horizon. Then the logits `(B, num_classes)` are the sum of a linear
            layer on all series of each level. `individual` has no meaning.

    Raises:
        BackboneError: If `levels`, `kernel` or `stride` is below 1.
    """

    def __init__(
        self,
        lookback: int,
        horizon: int | None,
        series: int,
        *,
        levels: int = 4,
        kernel: int = 3,
        stride: int = 2,
        individual: bool = False,
        dropout: float = 0.0,
        instance_norm: bool = True,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if min(levels, kernel, stride) < 1:
            raise BackboneError(f"unet_tsf: levels, kernel and stride must be 1 or more, got {levels, kernel, stride}")

        def linear(inputs: int, outputs: int) -> nn.Module:
            return SeriesLinear(series, inputs, outputs) if individual else nn.Linear(inputs, outputs)

        steps, horizons = [lookback], [horizon or 1]
        while len(steps) < levels and steps[-1] >= kernel:
            steps.append((steps[-1] - kernel) // stride + 1)
            horizons.append(max(1, (horizons[-1] - kernel) // stride + 1))
        self.norm = InstanceNorm(series) if instance_norm else None
        # The identity gives the window itself a slot.
        self.pools = nn.ModuleList([nn.Identity(), *(nn.AvgPool1d(kernel, stride) for _ in steps[1:])])
        self.classifies = num_classes is not None
        if num_classes is not None:
            self.heads = nn.ModuleList(nn.Linear(series * n, num_classes) for n in steps)
            self.dropout = nn.Dropout(dropout)
            return
        self.forecasts = nn.ModuleList(linear(n, h) for n, h in zip(steps, horizons, strict=True))
        # merges[k] joins the forecast of level k with the merged forecast of level k + 1, at the length of level k.
        self.merges = nn.ModuleList(linear(fine + coarse, fine) for fine, coarse in pairwise(horizons))
        self.dropout = nn.Dropout(dropout)

    def host_slots(self) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        return {f"stage{level + 1}": (f"pools.{level}", "NCL") for level in range(len(self.pools))}

    def forward(self, x: Tensor) -> Tensor:
        """Forecast a window, `(B, lookback, series) -> (B, horizon, series)`, or classify it."""
        if self.classifies:
            levels = self._levels(normalised(self.norm, x))
            logits = [head(self.dropout(level.flatten(1))) for head, level in zip(self.heads, levels, strict=True)]
            return sum(logits[1:], logits[0])
        return forecast_normalised(self.norm, x, self._forecast)

    def _levels(self, x: Tensor) -> list[Tensor]:
        """Return the pooled windows, `(B, series, steps)`, from the finest to the coarsest."""
        levels = [x.transpose(1, 2).contiguous()]
        for pool in self.pools:
            levels.append(pool(levels[-1]))
        return levels[1:]

    def _forecast(self, x: Tensor) -> Tensor:
        levels = self._levels(x)
        forecasts = [self.dropout(own(level)) for own, level in zip(self.forecasts, levels, strict=True)]
        merged = forecasts.pop()
        for merge in reversed(self.merges):
            merged = merge(torch.cat([forecasts.pop(), merged], dim=2))
        return merged.transpose(1, 2)


class SeriesLinear(nn.Module):
    """A linear layer over time, with separate weights for each of D series: `(B, D, inputs) -> (B, D, outputs)`.

    Args:
        series: Number of series D.
        inputs: Number of input steps.
        outputs: Number of output steps.
    """

    def __init__(self, series: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5  # the bound of nn.Linear's own initialisation
        self.weight = nn.Parameter(torch.empty(series, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(series, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each series the weights of that series: `(B, D, inputs) -> (B, D, outputs)`."""
        return torch.einsum("bdi,doi->bdo", x, self.weight) + self.bias
