"""The race for further trainings, repeated from the records: which plan got each training, and what it changed.

The estimates are not recorded. They depend only on the trainings, so the race is repeated training by training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from nasbench.evidence.race import Race, race
from nasbench.evidence.trainings import Trainings
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.feasibility import infeasible
from nasbench.runs.refinement import has_given_plans, most_seeds
from nasbench.runs.run import Run
from nasbench.runs.trainings import PlanTrainings, RunTrainings, trainings_of

__all__ = ["race_table"]

COLUMNS = ("number", "plan", "seed", "value", "reason", "p_better", "state", "news")


def race_table(run: Run) -> pd.DataFrame:
    """Return one row for each further training, in the order in which they were started.

    In the repeated race, all plans take part from the start, with their first seed. In the search, the first further
    trainings of the bare backbone came before the first trainings of the other plans.

    Returns:
        A table with these columns. It is empty if the plans were given, because they all get the same seeds, and if no
        training has a reason.

        - number, plan, seed: the trained plan and seed. The number is that of the plan's first trial.
        - value: the metric. NaN if the training failed.
        - reason: the reason for this training.
        - p_better: probability that the plan is better than the bare backbone, after this training. NaN for the bare
          backbone, and before the noise is known.
        - state: state of the plan after this training (`nasbench.evidence.race.State`). "" for the bare backbone.
        - news: changes of the state of other plans, such as "trial 3 dropped".
    """
    raced = run.metric is not None and not has_given_plans(run.settings)
    further = run.journal.further_trainings() if raced else []
    if not any(reason for _, reason in further):
        return pd.DataFrame(columns=list(COLUMNS))
    recorded = trainings_of(run)
    if recorded.bare is None:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.DataFrame(_replay(run, recorded, further), columns=list(COLUMNS))


def _replay(run: Run, recorded: RunTrainings, further: list[tuple[Evaluation, str]]) -> Iterator[dict[str, object]]:
    assert run.metric is not None
    added = Counter(one.plan_hash for one, _ in further if one.is_complete)
    failed = Counter(one.plan_hash for one, _ in further if not one.is_complete)
    seeds = {one.plan_hash: one.trainings.seeds - added[one.plan_hash] for one in recorded.all_plans}
    failures = {one.plan_hash: one.failures - failed[one.plan_hash] for one in recorded.all_plans}
    before = _race_after(run, recorded, seeds, failures)
    indices = {one.plan_hash: index for index, one in enumerate(recorded.plans)}
    for evaluation, reason in further:
        if evaluation.plan_hash not in seeds:  # none of its trainings succeeded, so it is in no comparison
            continue
        (seeds if evaluation.is_complete else failures)[evaluation.plan_hash] += 1
        after = _race_after(run, recorded, seeds, failures)
        index = indices.get(evaluation.plan_hash)
        believed = after.posterior
        yield {
            "number": evaluation.number,
            "plan": evaluation.plan,
            "seed": evaluation.seed,
            "value": evaluation.metrics.get(run.metric, np.nan),
            "reason": reason,
            "p_better": np.nan if index is None or believed is None else float(believed.better[index]),
            "state": "" if index is None else after.states[index],
            "news": _news(recorded, before, after, index),
        }
        before = after


def _race_after(run: Run, recorded: RunTrainings, seeds: Mapping[str, int], failures: Mapping[str, int]) -> Race:
    """Return the state of the race when each plan had its first `seeds` trainings."""
    assert recorded.bare is not None
    then = RunTrainings(
        bare=_first(recorded.bare, seeds),
        plans=tuple(_first(one, seeds) for one in recorded.plans),
        controls={},  # controls are trained after the race
        earlier=recorded.earlier,
    )
    return race(
        then.standing,
        then.contents,
        spent=0,
        most_seeds=most_seeds(run.settings),
        until=run.settings.until,
        failures=[failures[one.plan_hash] for one in then.plans],
        infeasible=infeasible(then, run.settings.constraints),
    )


def _first(plan: PlanTrainings, seeds: Mapping[str, int]) -> PlanTrainings:
    whole, count = plan.trainings, max(seeds[plan.plan_hash], 1)
    trainings = Trainings(whole.scores[:count], None if whole.items is None else whole.items[:count], whole.block)
    return PlanTrainings(plan.evaluations[:count], plan.failures, trainings)


def _news(recorded: RunTrainings, before: Race, after: Race, trained: int | None) -> str:
    """Return the changes of state of the plans that were not trained."""
    changed: dict[str, list[str]] = {}
    # Before the noise is known, only the states "failed" and "infeasible" have a meaning.
    known = before.states if before.posterior is not None else ("open",) * len(after.states)
    for index, (old, new) in enumerate(zip(known, after.states, strict=True)):
        if old != new and index != trained:
            word = "open again" if new == "open" else new
            changed.setdefault(word, []).append(str(recorded.plans[index].evaluations[0].number))
    return "; ".join(f"trial{'s' * (len(all_) > 1)} {', '.join(all_)} {word}" for word, all_ in changed.items())
