"""DLinear (Zeng et al., "Are Transformers Effective for Time Series Forecasting?", AAAI 2023, arXiv:2205.13504)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench.backbones.stem_registry import register_stem
from nasbench.ops.series import decompose

__all__ = ["DLinear"]


@register_stem("dlinear")
class DLinear(nn.Module):
    """A linear layer on the seasonal part plus a linear layer on the trend. All series share both layers.

    This is the usual baseline of forecasting.

    .. math:: y = W_s\\,(x - \\mathrm{MA}(x)) + W_t\\,\\mathrm{MA}(x)

    Shapes: `(B, lookback, series) -> (B, horizon, series)`. Slots: `input`, `trend`, `seasonal`, each
    `(B, series, lookback)` with the series as channels.

    Args:
        lookback: Number of input steps L.
        horizon: Number of forecast steps H.
        series: Number of series D.
        kernel: Number of steps of the moving average. It must be odd, and it is 25 in the paper.
    """

    def __init__(self, lookback: int, horizon: int, series: int, *, kernel: int = 25) -> None:
        super().__init__()
        self.kernel = kernel
        # An identity makes a slot in a place where the backbone has no module of its own.
        self.input = nn.Identity()
        self.seasonal = nn.Identity()
        self.trend = nn.Identity()
        self.linear_seasonal = nn.Linear(lookback, horizon)
        self.linear_trend = nn.Linear(lookback, horizon)

    @classmethod
    def host_slots(cls) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        return {name: (name, "NCL") for name in ("input", "trend", "seasonal")}

    def forward(self, x: Tensor) -> Tensor:
        """Forecast a window: `(B, lookback, series) -> (B, horizon, series)`."""
        seasonal, trend = decompose(self.input(x.transpose(1, 2)), self.kernel)
        forecast = self.linear_seasonal(self.seasonal(seasonal)) + self.linear_trend(self.trend(trend))
        return forecast.transpose(1, 2)
