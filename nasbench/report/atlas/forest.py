"""Forest plots of the atlas: the modules of one property, each with its difference and interval on every host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from nasbench.evidence.atlas import Measured
from nasbench.report.atlas.summary import at_every_stage, in_percent
from nasbench.report.plotting import BLACK, style

__all__ = ["draw_forest", "forest_frame"]

_WIDTH = 3.5
"""Inches. A browser draws 96 pixels for an inch. With its margins the plot fits the text of a page on a phone of 390
pixels, so that its own text does not shrink."""

_MARKS = "osDv^P"
_UNITS = {"maximize": "points of {metric} beside the bare host", "minimize": "% less {metric} than the bare host"}


def forest_frame(rows: pd.DataFrame, groups: Sequence[Measured], dims: int, property: str) -> pd.DataFrame:
    """Return the rows of a forest plot, the best module first.

    Args:
        rows: Rows of the atlas.
        groups: Their bare hosts.
        dims: 2 for images, 1 for series.
        property: A declared property, or "none" for modules that declare none.

    Returns:
        The columns module, group, difference, low, high (in percent, `in_percent`) and verdict. Modules are sorted by
        the mean of their differences.
    """
    of_group = {(group.host, group.data): group for group in groups}
    own = at_every_stage(rows, dims)
    own = own[[property in text.split(", ") for text in own["property"]]]
    found = []
    for row in own.to_dict("records"):
        values = in_percent(row, of_group[row["host"], row["data"]])
        found.append((row["module"], f"{row['data']}, {row['host']}", *values, row["verdict"]))
    frame = pd.DataFrame(found, columns=["module", "group", "difference", "low", "high", "verdict"])
    order = frame.groupby("module")["difference"].mean().sort_values(ascending=False, kind="stable")
    return frame.assign(place=frame["module"].map({name: i for i, name in enumerate(order.index)})).sort_values(
        ["place", "group"], ignore_index=True
    )


def draw_forest(frame: pd.DataFrame, metric: str, direction: str) -> Figure:
    """Draw a forest plot of a `forest_frame`.

    A filled marker is decided (BETTER or WORSE), an empty one is not. A difference beyond the axis is an arrow at its
    edge with its figure, because one module that breaks the training would squeeze all others to a line.
    """
    names = list(dict.fromkeys(frame["module"]))
    groups = sorted(set(frame["group"]))
    with style():
        figure = Figure(figsize=(_WIDTH, 1.1 + 0.11 * len(names) * (len(groups) + 1)), layout="constrained")
        axes = figure.subplots()
        left, right = _limits(frame)
        colours = sns.color_palette("colorblind", len(groups))
        for number, (group, colour) in enumerate(zip(groups, colours, strict=True)):
            own = frame[frame["group"] == group]
            height = own["place"] + (number - (len(groups) - 1) / 2) * 0.7 / len(groups)
            value = own["difference"].clip(left, right)
            low, high = own["low"].clip(left, right), own["high"].clip(left, right)
            axes.hlines(height, low, high, color=colour, lw=1)
            mark = _MARKS[number % len(_MARKS)]
            decided = (own["verdict"] != "NOT DECIDED").to_numpy()
            inside = ((own["difference"] >= left) & (own["difference"] <= right)).to_numpy()
            axes.scatter(value[inside], height[inside], s=14, marker=mark, edgecolors=[colour], linewidths=1, zorder=3,
                         facecolors=[colour if each else "white" for each in decided[inside]], label=group)  # fmt: skip
            beyond = (own["difference"] < left).to_numpy()
            axes.scatter(value[beyond], height[beyond], s=16, marker="<", color=[colour], zorder=3, clip_on=False)
            for place, figure_beyond in zip(height[beyond], own["difference"][beyond], strict=True):
                axes.annotate(f"{figure_beyond:.0f}", (left, place), (6, 0), textcoords="offset points", fontsize=6,
                              color=colour, va="center", bbox={"fc": "white", "ec": "none", "pad": 0.5})  # fmt: skip
        axes.axvline(0, color=BLACK, lw=0.8)
        axes.set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6), xlim=(left, right))
        axes.set_yticklabels(names, fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_xlabel(_UNITS[direction].format(metric=metric), fontsize=8)
        figure.legend(loc="outside upper left", ncols=1, fontsize=8)
        return figure


def _limits(frame: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of the axis: all of what may help, and as much again of what harms."""
    right = float(max(frame["high"].max(), 1e-9)) * 1.05
    typical = float(np.median(frame["high"] - frame["low"]))
    return max(float(frame["low"].min()) * 1.05, -max(1.5 * right, 4 * typical)), right
