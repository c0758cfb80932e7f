"""Heat map of the effect of each module in each slot."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from nasbench.report.plotting import style

__all__ = ["draw_effects"]

_MAX_ROWS = 30  # with more rows, the text cannot be read


def draw_effects(data: pd.DataFrame) -> Figure:
    """Draw the estimates: a row for each module, a column for each slot and one for any slot.

    At most 30 rows are shown, those with the largest |mean over the columns|.

    Args:
        data: Columns slot, module, estimate, verdict, as returned by `nasbench.evidence.effects.module_effects`.
    """
    estimated = data.dropna(subset=["estimate"])
    table = estimated.pivot_table(index="module", columns="slot", values="estimate", sort=False)
    order = table.mean(axis=1).abs().sort_values(ascending=False).index[:_MAX_ROWS]
    table = table.loc[order].sort_index(axis=1)
    marks = estimated.assign(mark=np.where(estimated["verdict"] == "NOT DECIDED", "", "*"))
    stars = marks.pivot_table(index="module", columns="slot", values="mark", aggfunc="first").reindex_like(table)
    text = table.map(lambda value: "" if pd.isna(value) else f"{value:+.2g}") + stars.fillna("")
    # The colours are symmetric about 0. If all estimates are 0, any limit will do.
    limit = float(np.nanmax(np.abs(table.to_numpy()))) or 1.0
    with style():
        figure = Figure(figsize=(1.8 + 0.95 * table.shape[1], 1.2 + 0.3 * len(table)), layout="constrained")
        axes = figure.subplots()
        sns.heatmap(
            table, annot=text, fmt="", cmap="vlag", center=0, vmin=-limit, vmax=limit, linewidths=0.5,
            annot_kws={"fontsize": 7}, cbar_kws={"shrink": 0.7}, ax=axes,
        )  # fmt: skip
        axes.set(xlabel="", ylabel="")
        axes.tick_params(axis="y", rotation=0)
        return figure
