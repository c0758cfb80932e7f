"""Learning curves of the compared plans, and the hypervolume of the search."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nasbench.library.plan import BARE
from nasbench.report.plotting import style
from nasbench.runs.run import Run

__all__ = ["curves_data", "draw_curves", "draw_hypervolume"]

_MAX_CURVES = 8  # with more plans, the curves cannot be distinguished


def curves_data(run: Run) -> pd.DataFrame:
    """Return one row for each value and epoch of the compared plans: trial, plan, seed, epoch, what, value.

    `what` is "train_loss" or, for an epoch with a validation, the metric and, in a training without labels,
    "pretext_loss". There are at most eight plans: the bare backbone and the plans with the best metric.
    """
    finalists = run.finalists()
    metric = run.metric
    if metric is not None and metric in finalists:
        finalists = finalists.sort_values(metric, ascending=run.directions[metric] == "minimize")
    bare = finalists[finalists["plan"] == BARE.text]
    # The bare backbone comes first, so that it is never cut off.
    chosen = pd.concat([bare, finalists[finalists["plan"] != BARE.text]]).head(_MAX_CURVES)["plan_hash"].tolist()
    rows = []
    for evaluation in run.evaluations():
        if evaluation.plan_hash not in chosen or not evaluation.is_complete:
            continue
        for line in evaluation.history:
            for what in dict.fromkeys(("train_loss", metric, "pretext_loss")):
                if what in line:
                    rows.append(
                        {
                            "trial": evaluation.number,
                            "plan": evaluation.plan,
                            "seed": evaluation.seed,
                            "epoch": int(line["epoch"]),
                            "what": what,
                            "value": line[what],
                        }
                    )
    return pd.DataFrame(rows, columns=["trial", "plan", "seed", "epoch", "what", "value"])


_MARKS = {"linewidth": 1.1, "marker": "o", "markersize": 4, "markeredgecolor": "none"}


def draw_curves(data: pd.DataFrame) -> Figure:
    """Draw a panel for the loss and one for the metric, with a colour for each trial and a line for each seed."""
    panels = list(dict.fromkeys(data["what"]))
    with style():
        figure = Figure(figsize=(6.4, 3.1 * len(panels)), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        named = data.assign(trial=("trial " + data["trial"].astype(str)).where(data["plan"] != BARE.text, "bare"))
        for axes, what in zip(grid, panels, strict=True):
            sns.lineplot(
                named[named["what"] == what], x="epoch", y="value", hue="trial", units="seed", estimator=None,
                **_MARKS, ax=axes, legend=axes is grid[0],
            )  # fmt: skip
            axes.set(ylabel="training loss" if what == "train_loss" else f"{what} (validation)")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        handles, names = grid[0].get_legend_handles_labels()
        for handle in handles:  # seaborn leaves the marks out of the legend, which are all that one epoch shows
            handle.set(**_MARKS)
        grid[0].legend(handles, names, title=None, fontsize=8, ncols=2)
        return figure


def draw_hypervolume(data: pd.DataFrame) -> Figure:
    """Draw the hypervolume over the number of distinct plans, as a step line."""
    with style():
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.step(data["evaluations"], data["hypervolume"], where="post")
        axes.set(xlabel="distinct plans", ylabel="hypervolume")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return figure
