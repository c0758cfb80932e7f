"""Plot of one fingerprint: influence on the centre, ring profile and cost curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nasbench.measurement.properties.fingerprint import Fingerprint
from nasbench.report.plotting import BLUE, GREY, CountFormatter, style

__all__ = ["FingerprintData", "draw_fingerprint", "fingerprint_data"]

_FLOOR = 1e-6  # influence below this share of the largest influence is blank in the map


@dataclass(frozen=True)
class FingerprintData:
    """A fingerprint before it is drawn.

    Attributes:
        title: Module, size, channels and the five property values.
        influence: Influence on the centre position, `(H, W)`. It has a single row for one dimension.
        profile: Columns ring, distances ("2-3"), measured, uniform. The last two are shares of the influence of other
            positions.
        curve: Columns positions, cost (MACs and elementwise operations), fitted.
        exponent: Slope of the fit. None if there is no fit.
    """

    title: str
    influence: NDArray[np.float64]
    profile: pd.DataFrame
    curve: pd.DataFrame
    exponent: float | None


def fingerprint_data(fingerprint: Fingerprint) -> FingerprintData:
    """Return the data that the plot of a fingerprint shows."""
    rings = range(len(fingerprint.profile))
    profile = pd.DataFrame(
        {
            "ring": list(rings),
            "distances": ["1" if r == 0 else f"{2**r}-{2 ** (r + 1) - 1}" for r in rings],
            "measured": fingerprint.profile,
            "uniform": fingerprint.uniform_profile,
        }
    )
    positions = np.array([point.positions for point in fingerprint.cost_curve], dtype=float)
    cost = np.array([point.macs + point.elementwise_flops for point in fingerprint.cost_curve], dtype=float)
    fitted = np.full_like(cost, np.nan)
    if fingerprint.complexity is not None and cost.all():
        # The fitted line has the measured slope. On logarithmic axes it goes through the mean of the points.
        middle = np.exp(np.log(cost).mean() - fingerprint.complexity * np.log(positions).mean())
        fitted = middle * positions**fingerprint.complexity
    size = "x".join(map(str, fingerprint.size))
    properties = ("locality", "globality", "sparsity", "multiscale", "complexity")
    values = (f"{name} {'-' if (v := getattr(fingerprint, name)) is None else f'{v:.2f}'}" for name in properties)
    return FingerprintData(
        title=f"{fingerprint.name}, {size}, {fingerprint.channels} channels\n{'  '.join(values)}",
        influence=np.atleast_2d(fingerprint.influence),
        profile=profile,
        curve=pd.DataFrame({"positions": positions, "cost": cost, "fitted": fitted}),
        exponent=fingerprint.complexity,
    )


def draw_fingerprint(data: FingerprintData) -> Figure:
    """Draw the influence on the centre, the ring profile and the cost curve side by side."""
    with style():
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        figure.suptitle(data.title, x=0.01, ha="left", fontsize=11)
        left, middle, right = figure.subplots(1, 3)
        _draw_influence(figure, left, data.influence)
        _draw_profile(middle, data.profile)
        _draw_curve(right, data)
        return figure


def _draw_influence(figure: Figure, axes: Axes, influence: NDArray[np.float64]) -> None:
    top = influence.max() or 1.0
    shown = np.where(influence >= _FLOOR * top, influence, np.nan)
    # At least one decade, so that the logarithmic scale is not empty for a constant map.
    low = min(float(np.nanmin(shown)), top / 10) if (influence > 0).any() else top / 10
    aspect: Literal["auto", "equal"] = "auto" if len(influence) == 1 else "equal"
    image = axes.imshow(shown, norm=LogNorm(low, top), cmap="viridis", aspect=aspect)
    axes.set(title="influence on the centre position", xticks=[], yticks=[])
    figure.colorbar(image, ax=axes, shrink=0.8)


def _draw_profile(axes: Axes, profile: pd.DataFrame) -> None:
    place = profile["ring"].to_numpy(dtype=float)
    axes.bar(place - 0.2, profile["measured"], 0.4, color=BLUE, label="measured")
    axes.bar(place + 0.2, profile["uniform"], 0.4, color=GREY, label="uniform influence")
    axes.set(
        title="influence of other positions by distance", xticks=place, xticklabels=profile["distances"], ylim=(0, 1),
        xlabel="Chebyshev distance", ylabel="share",
    )  # fmt: skip
    axes.legend()


def _draw_curve(axes: Axes, data: FingerprintData) -> None:
    curve = data.curve
    axes.plot(curve["positions"], curve["cost"], "o", color=BLUE, label="MACs + elementwise operations")
    if data.exponent is not None and curve["fitted"].notna().all():
        axes.plot(curve["positions"], curve["fitted"], color=GREY, label=f"fitted: N^{data.exponent:.2f}", zorder=1)
    if (curve["cost"] > 0).all():
        axes.set(xscale="log", yscale="log")
    axes.yaxis.set_major_formatter(CountFormatter())
    axes.set(title="cost of one item by number of positions N", xlabel="N")
    axes.legend()
