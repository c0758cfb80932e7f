"""The library in the five-property space: a map of all modules, and a small parallel plot of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nasbench.properties import THRESHOLDS, Measured
from nasbench.registry import PROPERTIES
from nasbench.report.fingerprints import save_figure, style

__all__ = ["Cluster", "clusters", "draw_map", "draw_parallel", "property_frame", "save_page_figures"]

_GRID = 0.04  # points nearer than this share a label
_COLUMNS = 8
_AXES = ("L", "G", "S", "M", "N^")


def property_frame(rows: Mapping[str, Measured]) -> pd.DataFrame:
    """Return one row a module: name and the five figures, 0 where one is not defined."""
    frame = pd.DataFrame([{"name": name, **{p: getattr(row, p) for p in PROPERTIES}} for name, row in rows.items()])
    return frame.astype(dict.fromkeys(PROPERTIES, float)).fillna(dict.fromkeys(PROPERTIES, 0.0))


@dataclass(frozen=True)
class Cluster:
    """Modules that lie together on the map.

    Attributes:
        locality: Mean of theirs.
        globality: Mean of theirs.
        names: The modules, by name.
    """

    locality: float
    globality: float
    names: tuple[str, ...]


def clusters(frame: pd.DataFrame) -> list[Cluster]:
    """Return the modules of a `property_frame` in groups that a label can tell apart."""
    cell = (frame[["locality", "globality"]] / _GRID).round()
    groups = frame.groupby([cell["locality"], cell["globality"]])
    return [Cluster(g["locality"].mean(), g["globality"].mean(), tuple(g["name"])) for _, g in groups]


def draw_map(frame: pd.DataFrame) -> Figure:
    """Draw every module by locality and globality; colour is sparsity, size multi-scale, a ring what is not linear."""
    with style():
        figure = Figure(figsize=(9, 6.5), layout="constrained")
        axes = figure.subplots()
        costly = ["#c44e20" if c > THRESHOLDS["complexity"] else "none" for c in frame["complexity"]]
        points = axes.scatter(
            frame["locality"], frame["globality"], s=30 + 150 * frame["multiscale"], c=frame["sparsity"],
            cmap="viridis", vmin=0, vmax=1, edgecolors=costly, linewidths=1.4, alpha=0.85,
        )  # fmt: skip
        figure.colorbar(points, ax=axes, label="sparsity")
        for row in clusters(frame):
            more = f" +{len(row.names) - 1}" if len(row.names) > 1 else ""
            place, colour = (row.locality, row.globality), "#333333"
            axes.annotate(
                f"{row.names[0]}{more}", place, xytext=(6, 4), textcoords="offset points", fontsize=6, color=colour
            )
        axes.set(xlabel="locality", ylabel="globality", xlim=(-0.03, 1.12), ylim=(-0.04, 1.08))
        axes.set_title(
            "Larger: more scales. Red edge: cost above linear. Names that lie together are counted.", fontsize=9
        )
        return figure


def draw_parallel(frame: pd.DataFrame) -> Figure:
    """Draw a small parallel plot of the five figures for each module."""
    lines = ceil(len(frame) / _COLUMNS)
    with style():
        figure = Figure(figsize=(13, 1.25 * lines), layout="constrained")
        panels = figure.subplots(lines, _COLUMNS, sharex=True, sharey=True, squeeze=False).flatten()
        for panel, row in zip(panels, frame.to_dict(orient="records"), strict=False):
            _draw_panel(panel, str(row["name"]), [float(row[p]) for p in PROPERTIES])
        for panel in panels[len(frame) :]:
            panel.set_axis_off()
        return figure


def save_page_figures(frame: pd.DataFrame, folder: Path) -> None:
    """Write the two figures of docs/properties.md."""
    save_figure(draw_map(frame), folder / "properties-map.svg")
    save_figure(draw_parallel(frame), folder / "properties-parallel.svg")


def _draw_panel(axes: Axes, name: str, figures: list[float]) -> None:
    figures[-1] /= 2  # the exponent: 2, quadratic, is the top of the panel
    axes.fill_between(range(len(_AXES)), figures, color="#2a78b5", alpha=0.25)
    axes.plot(range(len(_AXES)), figures, "o-", ms=2.5, lw=1, color="#2a78b5")
    axes.set_title(name, fontsize=7)
    axes.set(xticks=range(len(_AXES)), ylim=(0, 1.05), yticks=[])
    axes.set_xticklabels(_AXES, fontsize=6)
