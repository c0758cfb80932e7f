"""DLinear (Zeng et al., "Are Transformers Effective for Time Series Forecasting?", AAAI 2023, arXiv:2205.13504)."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench.backbones.stem_registry import register_stem
from nasbench.ops.series import decompose, shortened

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
        horizon: Number of forecast steps H. None to classify.
        series: Number of series D.
        kernel: Number of steps of the moving average. It must be odd, and it is 25 in the paper. Series of fewer steps
            are classified with a kernel that fits into them.
        num_classes: Number of classes, instead of a horizon. Then the two layers map all series and steps together to
        the
            logits, `(B, num_classes)`.
    """

    def __init__(
        self, lookback: int, horizon: int | None, series: int, *, kernel: int = 25, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.kernel = kernel if num_classes is None else min(kernel, lookback - 1 + lookback % 2)
        self.shortened = shortened("dlinear", lookback, kernel=(kernel, self.kernel))
        self.classifies = num_classes is not None
        # An identity makes a slot in a place where the backbone has no module of its own.
        self.input = nn.Identity()
        self.seasonal = nn.Identity()
        self.trend = nn.Identity()
        inputs, outputs = (lookback, horizon) if num_classes is None else (series * lookback, num_classes)
        assert outputs is not None
        self.linear_seasonal = nn.Linear(inputs, outputs)
        self.linear_trend = nn.Linear(inputs, outputs)

    @classmethod
    def host_slots(cls) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        return {name: (name, "NCL") for name in ("input", "trend", "seasonal")}

    def forward(self, x: Tensor) -> Tensor:
        """Forecast a window, `(B, lookback, series) -> (B, horizon, series)`, or classify it."""
        seasonal, trend = (part(x) for part, x in zip((self.seasonal, self.trend), self._parts(x), strict=True))
        if self.classifies:
            return self.linear_seasonal(seasonal.flatten(1)) + self.linear_trend(trend.flatten(1))
        return (self.linear_seasonal(seasonal) + self.linear_trend(trend)).transpose(1, 2)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return decompose(self.input(x.transpose(1, 2)), self.kernel)
