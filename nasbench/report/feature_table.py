"""What the features are worth that were learnt without labels: one row for each compared plan."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from nasbench.library.plan import BARE
from nasbench.library.pretexts import SUPERVISED
from nasbench.report.formatting import figure_text
from nasbench.report.tables import Column, Row, Table, number_cell, plan_cell
from nasbench.runs.run import Run

__all__ = ["feature_table", "rank_note"]

_METRICS = {
    "knn_accuracy": "kNN accuracy",
    "probe_accuracy": "linear probe",
    "rank_me": "RankMe",
    "feature_spread": "feature spread",
    "pretext_loss": "pretext loss",
}

_LOW_RANK = 2.0
"""A RankMe below this means that one direction holds nearly everything. It is 1 if all outputs lie on one line through
the origin."""

_MOST_NAMED = 6  # plans in a note


def feature_table(run: Run, finalists: pd.DataFrame) -> Table | None:
    """Return the metrics of the features of each compared plan. None for a run with labels.

    Args:
        run: The run.
        finalists: Its compared plans (`Run.finalists`).
    """
    shown = {name: title for name, title in _METRICS.items() if name in finalists}
    if run.settings.learn == SUPERVISED or not shown:
        return None
    of_metrics = [Column(title, True) for title in shown.values()]
    columns = (Column("plan"), Column("trial", True), Column("seeds", True), *of_metrics)
    rows = tuple(
        Row(
            (
                plan_cell(row["plan"]),
                *(number_cell(str(row[name]), row[name]) for name in ("number", "seeds")),
                *(number_cell(figure_text(row[name]), row[name]) for name in shown),
            ),
            bare=row["plan"] == BARE.text,
        )
        for row in finalists.to_dict(orient="records")
    )
    caption = (
        "Means over seeds, of validation items after training. RankMe is the effective rank of the projector's output: "
        "how many directions are used. It is 1 or more. The spread is 1 if features point evenly into all directions, "
        "and 0 if all are equal."
    )
    if "knn_accuracy" in shown:
        caption += " kNN and the linear probe read labels."
    return Table("Features", columns, rows, caption)


def rank_note(run: Run, finalists: pd.DataFrame) -> Iterable[str]:
    """Yield that the features of plans lie nearly on one line, if RankMe says so.

    Args:
        run: The run.
        finalists: Its compared plans (`Run.finalists`).
    """
    if "rank_me" not in finalists:
        return
    known = finalists[finalists["rank_me"].notna()]
    low = known[known["rank_me"] < _LOW_RANK]
    if low.empty:
        return
    names = [
        f"{'the bare backbone' if row['plan'] == BARE.text else 'trial ' + str(row['number'])} ({row['rank_me']:.2f})"
        for row in low.to_dict(orient="records")
    ]
    more = len(names) - _MOST_NAMED
    told = ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    epochs = run.settings.training.get("epochs")
    after = "" if epochs is None else f" after {epochs} epoch{'' if epochs == 1 else 's'}"
    start = (
        f"RankMe is below {_LOW_RANK:g}{after}: {told}. At 1, the projected features of all validation items lie on "
        "one line."
    )
    bare = known.loc[known["plan"] == BARE.text, "rank_me"]
    if not bare.empty and bare.iloc[0] > max(_LOW_RANK, 2 * low["rank_me"].min()):
        yield (
            f"{start} The bare backbone has {bare.iloc[0]:.2f}, so this is a near collapse of these plans, or a slower "
            "start than that of the bare backbone. Do not choose one of them for its pretext_loss."
        )
    elif len(low) == len(known):
        yield (
            f"{start} All compared plans are so. After few epochs this is usual, because at the start all features "
            "share a large mean. If RankMe stays there in a longer training, it is a near collapse."
        )
