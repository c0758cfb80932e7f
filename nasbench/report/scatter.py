"""Pareto scatter of a run: a metric over a cost, as a data frame and as a picture."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from nasbench.evidence.pareto import non_dominated
from nasbench.library.plan import BARE
from nasbench.objectives import COSTS
from nasbench.report.formatting import BARE_NAME
from nasbench.report.plotting import BLACK, BLUE, GREY, RED, CountFormatter, label, style
from nasbench.runs.run import Run

__all__ = [
    "BARS",
    "KINDS",
    "LABELS",
    "ScatterData",
    "caption_of",
    "costs_of",
    "draw_scatter",
    "error_bar",
    "front_note",
    "is_bare_on_front",
    "is_feasible",
    "kind_labels",
    "kind_of",
    "legend_below",
    "scatter_data",
    "set_cost_axis",
]

LABELS = {
    "params": "parameters",
    "macs": "MACs (1 MAC = 1 multiply-add, one input)",
    "elementwise_flops": "elementwise operations, one input",
    "activations": "activations (elements)",
    "peak_memory_bytes": "peak memory (bytes)",
    "latency_ms": "latency (ms)",
}
"""Axis labels of the costs, with units."""

BARS = "error bar: 95 % interval of the difference from the bare backbone"
"""Title of the legend if points have an `error_bar`."""

KINDS = {"other": GREY, "finalist": BLUE, "front": RED, "bare": BLACK}
"""Kinds of points with their colours: with one seed, with several seeds but dominated, on the front, bare backbone. A
plan with one seed can be on the front."""


_COLUMNS = ("number", "plan", "x", "y", "low", "high", "kind", "feasible")


@dataclass(frozen=True)
class ScatterData:
    """A Pareto scatter before it is drawn.

    Attributes:
        points: Columns number, plan, x, y, low, high (`error_bar`), kind (one of `KINDS`), feasible (whether the plan
            breaks no bound).
        x: The cost on the horizontal axis.
        y: The metric on the vertical axis.
        direction: Direction of y, "maximize" or "minimize".
        seeds: Largest number of seeds of a finalist.
        objectives: The objectives of the run, over which its front is.
        bare_on_front: Whether the bare backbone is on that front.
    """

    points: pd.DataFrame
    x: str
    y: str
    direction: str
    seeds: int
    objectives: tuple[str, ...]
    bare_on_front: bool

    @property
    def front(self) -> pd.DataFrame:
        """Feasible compared points that no other such point dominates in this plane, sorted by x, ascending."""
        # A single seed is too noisy to be ranked with means over several seeds.
        feasible = self.points[self.points["feasible"].astype(bool)]
        compared = feasible[feasible["kind"] != "other"] if self.seeds > 1 else feasible
        on_front = non_dominated(compared[["x", "y"]].to_numpy(dtype=float), ["minimize", self.direction])
        return compared[on_front].sort_values("x")


def scatter_data(run: Run, x: str, y: str) -> ScatterData | None:
    """Return the scatter of metric `y` over cost `x`. None if no plan has both.

    A finalist is shown at its mean over seeds, with its `error_bar`. Other plans are shown at the value of their only
    seed.
    """
    finalists = run.finalists()
    if x not in finalists or y not in finalists:
        return None
    several = int(finalists["seeds"].max()) if len(finalists) else 1
    rows = [
        {
            "number": int(row["number"]),
            "plan": row["plan"],
            "x": row[x],
            "y": row[y],
            **dict(zip(("low", "high"), error_bar(row, y), strict=True)),
            "kind": kind_of(row),
            "feasible": is_feasible(row),
        }
        for row in finalists.to_dict(orient="records")
    ]
    trials, compared = run.trials(), set(finalists["plan_hash"])
    first = trials[(trials["state"] == "complete") & (trials["seed"] == run.settings.seed)]
    rows += [
        {
            **{k: row[k] for k in ("number", "plan")},
            "x": row[x],
            "y": row[y],
            "low": np.nan,
            "high": np.nan,
            "kind": "other",
            "feasible": True,
        }
        for row in first.to_dict(orient="records")
        if row["plan_hash"] not in compared
    ]
    # The columns are named, because in a run without a successful evaluation there is no row that would name them.
    points = pd.DataFrame(rows, columns=list(_COLUMNS)).dropna(subset=["x", "y"])
    if points.empty:
        return None
    direction = run.directions.get(y, "minimize")
    return ScatterData(points, x, y, direction, several, tuple(run.directions), is_bare_on_front(finalists))


def is_feasible(row: Mapping[Any, Any]) -> bool:
    """Return whether a row of `Run.finalists()` breaks no bound."""
    return not row.get("breaks")


def kind_of(row: Mapping[Hashable, Any]) -> str:
    """Return which of the `KINDS` a row of `Run.finalists()` is."""
    if row["plan"] == BARE.text:
        return "bare"
    return "front" if row["on_front"] else "finalist" if row.get("seeds", 1) > 1 else "other"


def is_bare_on_front(finalists: pd.DataFrame) -> bool:
    """Return whether the bare backbone is on the front of the run."""
    return bool((finalists["on_front"].astype(bool) & (finalists["plan"] == BARE.text)).any())


def front_note(objectives: Iterable[str]) -> str:
    """Return what tells the points on the front from the line of a chart, whose axes are not the objectives."""
    *others, last = objectives
    over = f"{', '.join(others)} and {last}" if others else last
    return f"A point is on the front if it is on that of {over}. The line is the front of the two axes alone."


def error_bar(row: Mapping[Hashable, Any], metric: str) -> tuple[float, float]:
    """Return the ends of a finalist's error bar. NaN if it has none.

    The bar shows whether a plan differs from the bare backbone. Both were evaluated on the same items, so the bar is as
    long as the 95 % interval of the paired difference. If the bar crosses the line of the bare backbone, the trainings
    of these two do not show a difference. The bare backbone and plans with one seed have no bar. If the difference is
    not known, the bar is the 95 % interval of the metric.

    Args:
        row: A row of `Run.finalists()`.
        metric: The metric of the run. The row contains its difference.
    """
    if row.get("seeds", 1) < 2 or row["plan"] == BARE.text:
        return np.nan, np.nan
    if pd.notna(row.get("difference")):
        # Also right for an error, whose difference has the other sign, because the interval is symmetric.
        below = row["difference"] - row["difference_low"]
        above = row["difference_high"] - row["difference"]
        return row[metric] - below, row[metric] + above
    return row.get(f"{metric}_low", np.nan), row.get(f"{metric}_high", np.nan)


def draw_scatter(data: ScatterData) -> Figure:
    """Draw a Pareto scatter with error bars, the front as a step line, and the bare backbone marked."""
    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        front = data.front
        axes.step(front["x"], front["y"], where="post", color=KINDS["front"], lw=1.2, alpha=0.7, zorder=1)
        barred = data.points.dropna(subset=["low", "high"])
        # A bar that crosses this line shows no difference from the bare backbone.
        for level in data.points.loc[data.points["kind"] == "bare", "y"] if len(barred) else ():
            axes.axhline(level, color=KINDS["bare"], lw=0.8, ls=":", zorder=0)
        for kind, group in barred.groupby("kind"):
            spread = np.abs(group[["low", "high"]].to_numpy(dtype=float).T - group["y"].to_numpy(dtype=float))
            axes.errorbar(
                group["x"], group["y"], spread, fmt="none", ecolor=KINDS[str(kind)], elinewidth=1, capsize=2.5
            )
        labels = kind_labels(data.seeds, bare_on_front=data.bare_on_front)
        sns.scatterplot(
            data=data.points.assign(what=data.points["kind"].map(labels)),
            x="x", y="y", hue="what", style="what", s=60, ax=axes, zorder=3,
            rasterized=len(data.points) > _MOST_DRAWN,
            palette={labels[k]: c for k, c in KINDS.items()}, markers={labels[k]: m for k, m in _MARKERS.items()},
        )  # fmt: skip
        axes.set(ylabel=f"{label(data.y)} (validation)")
        set_cost_axis(axes, data.x, data.points["x"])
        legend_below(axes, barred=len(barred) > 0)
        _annotate(figure, axes, data)
        return figure


def caption_of(data: ScatterData) -> str:
    """Return the caption of the picture of a scatter."""
    parts = [f"{data.y} against {LABELS.get(data.x, data.x)}."]
    named = data.points["kind"].isin(_named(data))
    if (named & (data.points["kind"] != "bare")).any():
        whose = "" if len(data.points) <= _MOST_NAMED else " of plans on the front"
        parts.append(f"Numbers{whose} are trial numbers, where there is room.")
    if set(data.objectives) != {data.x, data.y}:
        parts.append(front_note(data.objectives))
    elif len(data.front) > 1:
        parts.append("The step line is the front.")
    return " ".join(parts)


def set_cost_axis(axes: Axes, cost: str, values: pd.Series) -> None:
    """Label the horizontal axis with a cost and its unit. It is logarithmic if values differ by a factor above 8."""
    axes.set_xlabel(LABELS.get(cost, label(cost)))
    if values.min() > 0 and values.max() / values.min() > 8:
        axes.set_xscale("log")
    if cost in COSTS and cost != "latency_ms":  # after set_xscale, which sets its own formatter
        axes.xaxis.set_major_formatter(CountFormatter())


def legend_below(axes: Axes, *, barred: bool) -> None:
    """Put the legend below the axes. If there are error bars, its title explains them."""
    axes.legend(title=BARS if barred else None, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


_MOST_DRAWN = 2000
"""Up to this many points are drawn one by one in an SVG. More points are drawn as one bitmap, because one by one they
would make a page of tens of megabytes."""

_MARKERS = {"other": "o", "finalist": "o", "front": "o", "bare": "D"}


def kind_labels(seeds: int, *, bare_on_front: bool) -> dict[str, str]:
    """Return the name of each of the `KINDS` in a legend.

    Args:
        seeds: Largest number of seeds of a plan.
        bare_on_front: Whether the bare backbone is on the front.
    """
    compared = f" (up to {seeds} seeds)" if seeds > 1 else ""
    return {
        "other": "with one seed",
        "finalist": f"compared{compared}",
        "front": f"on the front{compared}",
        "bare": f"{BARE_NAME} (on the front)" if bare_on_front else BARE_NAME,
    }


_MOST_NAMED = 12
"""Up to this many points all have their number. Of more points, only those on the front have one."""

_PLACES = ((6, 6), (6, -12), (-6, 6), (-6, -12))
"""Where a number can stand, in points from its mark: right or left of it, above or below. The first free one counts."""


def _named(data: ScatterData) -> list[str]:
    """Return the kinds of points that have a number."""
    return list(KINDS) if len(data.points) <= _MOST_NAMED else ["front", "bare"]


def _annotate(figure: Figure, axes: Axes, data: ScatterData) -> None:
    """Write trial numbers beside points and "bare" beside the bare backbone. The table below lists the plans.

    A number stands where it covers no other number and no point, if there is such a place. A number that would cover
    another number is left out.
    """
    figure.draw_without_rendering()  # so that the places of the points are known
    points = axes.transData.transform(data.points[["x", "y"]].to_numpy(dtype=float))
    rows = data.points[data.points["kind"].isin(_named(data))].to_dict(orient="records")
    taken: list[Bbox] = []
    for row in sorted(rows, key=lambda row: (row["kind"] != "bare", row["kind"] != "front")):  # the first are kept
        text = "bare" if row["kind"] == "bare" else str(row["number"])
        notes = [
            axes.annotate(
                text, (row["x"], row["y"]), xytext=place, textcoords="offset points", fontsize=8,
                ha="left" if place[0] > 0 else "right", color=KINDS[row["kind"]], zorder=4,
            )
            for place in _PLACES
        ]  # fmt: skip
        boxes = [note.get_window_extent() for note in notes]
        free = [i for i, box in enumerate(boxes) if not any(box.overlaps(other) for other in taken)]
        best = min(free, key=lambda i: _covered(boxes[i], points), default=None)
        for i, note in enumerate(notes):
            note.set_in_layout(False)  # the points stay where they are
            if i == best:
                taken.append(boxes[i])
            else:
                note.remove()


_RADIUS = 6
"""Radius of a point in pixels of the picture, a little more than is drawn."""


def _covered(box: Bbox, points: NDArray[np.float64]) -> int:
    """Return how many points `(N, 2)` a box covers, also in part."""
    inside = (points > np.subtract(box.min, _RADIUS)) & (points < np.add(box.max, _RADIUS))
    return int(inside.all(axis=1).sum())


def costs_of(run: Run) -> list[str]:
    """Return the costs that get a scatter: MACs, latency, and any other cost that is an objective."""
    wanted = ["macs", "latency_ms", *(name for name in run.directions if name in COSTS)]
    return list(dict.fromkeys(wanted))
