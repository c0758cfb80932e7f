"""The further trainings of a run in order: what each was for, and what was believed of its plan after it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from nasbench.evidence.race import State, race
from nasbench.evidence.verdicts import FEWEST_FOR_MODEL
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.refinement import most_seeds
from nasbench.runs.run import Run
from nasbench.runs.schema import FINALISTS
from nasbench.runs.trainings import RunTrainings, trainings_of

__all__ = ["FurtherTraining", "race_history"]


@dataclass(frozen=True)
class FurtherTraining:
    """One further training.

    Attributes:
        evaluation: Its result. Its `number` is the plan's trial in the search.
        reason: What it was for. "" where all plans get the same seeds.
        mean: Difference from the bare backbone that was believed of the plan afterwards. Positive is better. NaN for
            the bare backbone, a plan that was left out, and in a run of few plans.
        better: Probability that the plan is better. NaN likewise.
        state: State of the plan in the race afterwards. None where no plan is modelled, and for the bare backbone.
    """

    evaluation: Evaluation
    reason: str
    mean: float = np.nan
    better: float = np.nan
    state: State | None = None


def race_history(run: Run) -> list[FurtherTraining]:
    """Return the finished further trainings of a run, in the order in which they were begun.

    What was believed is computed again from the trainings up to there, without those of controls.

    Raises:
        RunError: If the journal is damaged.
    """
    reasons = run.journal.reasons
    found = [(one, reasons.get((one.plan_hash, one.seed), "")) for one in run.journal.evaluations(FINALISTS)]
    if run.metric is None or not found:
        return [FurtherTraining(*one) for one in found]
    every = trainings_of(run)
    if every.bare is None or len(every.plans) < FEWEST_FOR_MODEL:
        return [FurtherTraining(*one) for one in found]
    index = {plan.plan_hash: number for number, plan in enumerate(every.plans)}
    further = Counter(one.plan_hash for one, _ in found if one.is_complete)
    done = Counter({plan.plan_hash: len(plan.evaluations) - further[plan.plan_hash] for plan in every.all_plans})
    failed: Counter[str] = Counter()
    history = []
    for evaluation, reason in found:
        (done if evaluation.is_complete else failed)[evaluation.plan_hash] += 1
        number = index.get(evaluation.plan_hash)
        history.append(
            _after(every, done, failed, FurtherTraining(evaluation, reason), number, most_seeds(run.settings))
        )
    return history


def _after(
    every: RunTrainings,
    done: Counter[str],
    failed: Counter[str],
    training: FurtherTraining,
    number: int | None,
    most: int,
) -> FurtherTraining:
    """Return a training with what was believed after it."""
    if number is None or every.bare is None:
        return training
    plans = tuple(plan.first(done[plan.plan_hash]) for plan in every.plans)
    seen = RunTrainings(every.bare.first(done[every.bare.plan_hash]), plans, {}, every.earlier)
    failures = [failed[plan.plan_hash] for plan in plans]
    position = race(seen.standing, seen.contents, spent=0, most_seeds=most, failures=failures)
    if (believed := position.posterior) is None:
        return training
    return FurtherTraining(
        training.evaluation,
        training.reason,
        float(believed.mean[number]),
        float(believed.better[number]),
        position.states[number],
    )
