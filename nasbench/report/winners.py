"""Measured properties of the winner: the fingerprint of each of its slots after training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from nasbench.evidence.comparison import keeps_bounds
from nasbench.library.plan import BARE
from nasbench.library.registry import PROPERTIES
from nasbench.report.plotting import style
from nasbench.runs.run import Run

if TYPE_CHECKING:
    from nasbench.measurement.properties.fingerprint import Fingerprint

__all__ = ["best_plan_of", "draw_fingerprints", "fingerprints_data", "winner_of"]


def winner_of(run: Run, with_weights: Collection[int]) -> tuple[int, str] | None:
    """Return number and plan of the best plan on the front with stored weights, other than the bare backbone."""
    front = run.front()
    rows = front[(front["plan"] != BARE.text) & front["number"].isin(list(with_weights))]
    return None if rows.empty else (int(rows.iloc[0]["number"]), str(rows.iloc[0]["plan"]))


def best_plan_of(run: Run, with_weights: Collection[int]) -> tuple[int, str] | None:
    """Return number and plan of the best compared plan with stored weights, other than the bare backbone.

    Best by the metric. It need not be on the front, but it breaks no bound.
    """
    table, metric = run.finalists(), run.metric
    rows = table[(table["plan"] != BARE.text) & keeps_bounds(table) & table["number"].isin(list(with_weights))]
    if metric is None or rows.empty:
        return None
    best = rows.sort_values(metric, ascending=run.directions[metric] == "minimize").iloc[0]
    return int(best["number"]), str(best["plan"])


def fingerprints_data(number: int, fingerprints: Mapping[str, Fingerprint]) -> pd.DataFrame:
    """Return one row for each slot and property: trial, slot, module, property, value (missing if not defined)."""
    return pd.DataFrame(
        [
            {"trial": number, "slot": slot, "module": each.name, "property": name, "value": getattr(each, name)}
            for slot, each in fingerprints.items()
            for name in PROPERTIES
        ]
    )


def draw_fingerprints(data: pd.DataFrame) -> Figure:
    """Draw a heat map: a row for each slot, a column for each property, and the value in each cell."""
    # pivot sorts the properties by name, so their usual order is restored.
    table = data.pivot(index="slot", columns="property", values="value")[list(PROPERTIES)].astype(float)
    with style():
        figure = Figure(figsize=(6.4, 1.1 + 0.45 * len(table)), layout="constrained")
        axes = figure.subplots()
        sns.heatmap(table, vmin=0, vmax=1, cmap="crest", annot=True, fmt=".2f", cbar=False, linewidths=0.5, ax=axes)
        axes.set(xlabel="", ylabel="")
        axes.tick_params(axis="y", rotation=0)
        return figure
