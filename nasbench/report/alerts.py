"""The alerts at the top of a report: what a reader must look at before the figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from nasbench.evidence.comparison import keeps_bounds
from nasbench.library.plan import BARE
from nasbench.library.pretexts import SUPERVISED
from nasbench.report.feature_table import rank_note
from nasbench.report.headline import busy_load
from nasbench.report.training_state import data_wait
from nasbench.runs.damage import damage_of, missing_of
from nasbench.runs.evaluation import STOPPED
from nasbench.runs.run import Run
from nasbench.runs.trainings import RunTrainings

__all__ = ["Alert", "alerts_of"]

_FEW_ITEMS = 100
"""With fewer validation items than this, one item alone changes an accuracy by more than a percentage point."""

_MOST_NUMBERS = 8  # of trials in one alert

_LONG_WAIT = 0.2
"""A larger share of the training time in which the GPU waits for data is worth more loading processes."""


@dataclass(frozen=True)
class Alert:
    """An alert.

    Attributes:
        label: What it is about, in a word or two.
        text: One sentence or two.
        serious: Whether something is lost or wrong. Otherwise it is something to know.
    """

    label: str
    text: str
    serious: bool = False


def alerts_of(
    run: Run, finalists: pd.DataFrame, recorded: RunTrainings | None, omissions: Sequence[str]
) -> Iterable[Alert]:
    """Yield the alerts of a run, the serious ones first.

    The headline says the reasons of failures, and whether the training is near chance.

    Args:
        run: The run.
        finalists: Its compared plans (`Run.finalists`).
        recorded: Its trainings. None if every objective is a cost.
        omissions: Sentences that say which parts of the report could not be made, and why.
    """
    found = [
        *_of_trials(run.trials()),
        *_of_data(run),
        *_of_comparison(finalists, recorded),
        *_of_bounds(finalists),
        *_of_costs(run, finalists),
        *(Alert("low rank", text, True) for text in rank_note(run, finalists)),
    ]
    # Damaged files are known only after they were read.
    yield from (Alert("damaged", text, True) for text in (*damage_of(run), *missing_of(run)))
    yield from (Alert("left out", text, True) for text in omissions)
    yield from sorted(found, key=lambda alert: not alert.serious)
    if (waited := data_wait(run)) is not None and waited > _LONG_WAIT:
        yield Alert("waiting", f"The GPU waited for data in {waited:.0%} of the training time (median of the epochs).")


def _of_trials(trials: pd.DataFrame) -> Iterable[Alert]:
    plans = trials["plan_hash"].nunique()
    failed = trials[trials["state"] == "failed"]
    if len(failed):
        count = failed["plan_hash"].nunique()
        yield Alert("failed", f"{count} of {plans} plans failed. The reasons are at the end, grouped.", True)
    infinite = failed[failed["reason"].str.contains("not finite")]
    if len(infinite):
        text = f"The result of {_trainings(len(infinite))} was NaN or infinite. A smaller learning rate may help."
        yield Alert("NaN", text, True)
    stopped = trials["reason"].str.startswith(STOPPED)
    rejected = trials[(trials["state"] == "rejected") & ~stopped]["plan_hash"].nunique()
    if 2 * rejected > plans:
        text = f"{rejected} of {plans} plans were rejected. A wider constraint would let more pass."
        yield Alert("rejected", text)


def _of_data(run: Run) -> Iterable[Alert]:
    told = run.config["task"]
    if told is None:
        return
    classes = (told.get("model_kwargs") or {}).get("num_classes")
    classifies = told["kind"] in ("classification", "series-classification") and run.settings.learn == SUPERVISED
    if classes == 1 and classifies:
        yield Alert("one class", "The data has one class, so every model is always right.", True)
    few = {split: count for split, count in told["splits"].items() if split != "train" and 0 < count < _FEW_ITEMS}
    if few:
        told_each = [f"the {split} split has {count} item{'' if count == 1 else 's'}" for split, count in few.items()]
        text = f"{' and '.join(told_each)}, so one item moves the metric much."
        yield Alert("few items", text[0].upper() + text[1:])


def _of_comparison(finalists: pd.DataFrame, recorded: RunTrainings | None) -> Iterable[Alert]:
    if recorded is None or recorded.bare is None or not recorded.plans:
        return
    if not recorded.noise.freedom:
        yield Alert("one seed", "Every plan was trained once. Differences can be chance. --seeds trains further seeds.")
    elif (finalists.loc[keeps_bounds(finalists), "verdict"].isin(["BARE", "NOT DECIDED"])).all():
        yield Alert("nothing decided", "No compared plan could be told apart from the bare backbone.")


def _of_bounds(finalists: pd.DataFrame) -> Iterable[Alert]:
    if "breaks" not in finalists:
        return
    is_broken = (finalists["breaks"] != "") & (finalists["plan"] != BARE.text)  # the headline tells it of the bare one
    broken = finalists[is_broken].to_dict(orient="records")
    if len(broken) == 1:
        told = f"Trial {broken[0]['number']} is infeasible on the mean of its seeds: {broken[0]['breaks']}."
        yield Alert("infeasible", f"{told} It is not on the front, and no verdict makes it an answer.")
    elif broken:
        shown = ", ".join(str(row["number"]) for row in broken[:_MOST_NUMBERS])
        more = f" and {len(broken) - _MOST_NUMBERS} more" if len(broken) > _MOST_NUMBERS else ""
        told = f"Trials {shown}{more} are infeasible on the means of their seeds. The column `breaks` says why."
        yield Alert("infeasible", f"{told} They are not on the front, and no verdict makes them an answer.")


def _of_costs(run: Run, finalists: pd.DataFrame) -> Iterable[Alert]:
    if "exact" in finalists and (inexact := int((finalists["exact"] == False).sum())):  # noqa: E712  # None is unknown
        plans = f"{inexact} compared plan{'' if inexact == 1 else 's'}"
        yield Alert("lower bound", f"The MACs of {plans} are lower bounds, because an operator has no count.")
    steady = run.folder.latest_latency("profile", lambda measured: measured.get("steady"))
    if steady is False:
        text = "The times still drifted after the warm-up of the latency measurement. Measure again on an idle machine."
        yield Alert("latency not steady", text)
    if (load := busy_load(run)) is not None:
        yield Alert("busy machine", f"The load was {load:.3g} during the latency measurement, from other work.")
    if "latency_verdict" in finalists and (open_ := int((finalists["latency_verdict"] == "UNDECIDED").sum())):
        plans = f"{open_} compared plan{'' if open_ == 1 else 's'}"
        yield Alert("latency undecided", f"The latency of {plans} could not be told apart from the bare backbone's.")


def _trainings(count: int) -> str:
    return f"{count} training{'' if count == 1 else 's'}"
