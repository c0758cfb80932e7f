"""Plots of docs/properties.md: a map of all modules by their measured properties, and a small plot of each module."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from nasbench.library.registry import PROPERTIES
from nasbench.measurement.properties.record import THRESHOLDS, Measured
from nasbench.report.plotting import BLUE, RED, save_figure, style

__all__ = ["Cluster", "clusters", "draw_map", "draw_parallel", "property_frame", "save_page_figures"]

_NEAR = 0.02  # points share a label if their distances in locality and in globality are at most this
_COLUMNS = 8
_LIFTS = (0, 8, -8, 16, -16, 24, -24, 32, -32)
"""Positions that are tried for a label, in points above its module. The nearest come first."""
_AXES = ("L", "G", "S", "M", "N^")


def property_frame(rows: Mapping[str, Measured]) -> pd.DataFrame:
    """Return one row for each module: its name and its five property values. A value that is not defined is 0."""
    frame = pd.DataFrame([{"name": name, **{p: getattr(row, p) for p in PROPERTIES}} for name, row in rows.items()])
    return frame.astype(dict.fromkeys(PROPERTIES, float)).fillna(dict.fromkeys(PROPERTIES, 0.0))


@dataclass(frozen=True)
class Cluster:
    """Modules close together on the map, which share a label.

    Attributes:
        locality: Their mean locality.
        globality: Their mean globality.
        names: Their names, in the order of the frame.
    """

    locality: float
    globality: float
    names: tuple[str, ...]


def clusters(frame: pd.DataFrame) -> list[Cluster]:
    """Group the modules of a `property_frame` so that each group can have a label. The largest group comes first."""
    groups: list[list[int]] = []
    points = frame[["locality", "globality"]].to_numpy()
    for row in range(len(points)):
        near = (g for g in groups if abs(points[g].mean(0) - points[row]).max() <= _NEAR)
        group = next(near, None)  # greedy: choose the first group whose centre is near
        if group is None:
            groups.append([row])
        else:
            group.append(row)
    labelled = []
    for group in groups:
        locality, globality = points[group].mean(0).tolist()
        labelled.append(Cluster(locality, globality, tuple(frame["name"].iloc[group])))
    return sorted(labelled, key=lambda cluster: -len(cluster.names))


def draw_map(frame: pd.DataFrame) -> Figure:
    """Draw modules by locality and globality.

    The colour of a marker shows sparsity, and its size multi-scale. A red edge shows that the cost grows faster than
    linearly with the number of positions.
    """
    with style():
        figure = Figure(figsize=(9, 6.5), layout="constrained")
        axes = figure.subplots()
        points = axes.scatter(
            frame["locality"], frame["globality"], s=_areas(frame), c=frame["sparsity"],
            cmap="viridis", vmin=0, vmax=1, edgecolors=RED,
            linewidths=[1.6 if exponent > THRESHOLDS["complexity"] else 0 for exponent in frame["complexity"]],
        )  # fmt: skip
        figure.colorbar(points, ax=axes, label="sparsity")
        axes.set(xlabel="locality", ylabel="globality", xlim=(-0.04, 1.14), ylim=(-0.05, 1.08))
        axes.set_title("Larger: more scales. Red edge: cost above linear. +20: as many more modules here.", fontsize=9)
        _label(figure, axes, clusters(frame), frame)
        return figure


def _areas(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return the area of each marker, in square points."""
    return (30 + 150 * frame["multiscale"]).to_numpy()


def _label(figure: Figure, axes: Axes, groups: list[Cluster], frame: pd.DataFrame) -> None:
    """Label each group at the nearest position that is free of markers and other labels."""
    figure.draw_without_rendering()  # positions in pixels are known only after the layout is computed
    places = axes.transData.transform(frame[["locality", "globality"]].to_numpy())
    radii = (_areas(frame) / np.pi) ** 0.5
    dots = radii * figure.dpi / 72
    # Boxes in pixels that a label must not overlap: the markers, then the labels placed so far.
    taken = [Bbox.from_extents(x - r, y - r, x + r, y + r) for (x, y), r in zip(places, dots, strict=True)]
    inside = axes.get_window_extent()
    for group in groups:
        more = f" +{len(group.names) - 1}" if len(group.names) > 1 else ""
        place = (group.locality, group.globality)
        aside = float(radii[frame["name"].isin(group.names)].max()) + 4
        text = axes.annotate(
            f"{group.names[0]}{more}",
            place,
            (0, 0),
            textcoords="offset points",
            fontsize=6.5,
            va="center",
            color="#333333",
        )
        for lift, side in itertools.product(_LIFTS, (1, -1)):
            text.set(position=(side * (aside + abs(lift) / 3), lift), ha="left" if side > 0 else "right")
            box = text.get_window_extent()
            free = not any(box.overlaps(other) for other in taken)
            if free and inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1:
                break
        taken.append(box)
        if text.get_position()[1]:  # a label that was moved up or down needs a line to its module
            line = {"arrowstyle": "-", "lw": 0.5, "color": "#999999", "shrinkA": 1, "shrinkB": 2}
            axes.annotate("", place, text.get_position(), textcoords="offset points", arrowprops=line)


def draw_parallel(frame: pd.DataFrame) -> Figure:
    """Draw, for each module, a small parallel-coordinates plot of its five property values."""
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
    """Write the two plots of docs/properties.md."""
    save_figure(draw_map(frame), folder / "properties-map.svg")
    save_figure(draw_parallel(frame), folder / "properties-parallel.svg")


def _draw_panel(axes: Axes, name: str, figures: list[float]) -> None:
    figures[-1] /= 2  # complexity is an exponent: 2 (quadratic) becomes 1, the top of the panel
    axes.fill_between(range(len(_AXES)), figures, color=BLUE, alpha=0.25)
    axes.plot(range(len(_AXES)), figures, "o-", ms=2.5, lw=1, color=BLUE)
    axes.set_title(name, fontsize=7)
    axes.set(xticks=range(len(_AXES)), ylim=(0, 1.05), yticks=[])
    axes.set_xticklabels(_AXES, fontsize=6)
    axes.tick_params(labelbottom=True)  # shared axes label only the last row by default
