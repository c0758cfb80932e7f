"""The trials of a study so far, as a sampler reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nasbench.library.plan import Plan
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import is_void
from nasbench.study.samplers.knowledge import Knowledge

__all__ = ["ENOUGH", "History", "read_history"]

ENOUGH = 8
"""If at least this number of plans have results of a longer training, these results are used instead of those of a
shorter one."""


@dataclass(frozen=True)
class History:
    """The plans of a study in the order of their trials, without repeats.

    With successive halving, trainings have different numbers of epochs. Only results with the same number of epochs are
    compared: the largest number for which at least `ENOUGH` plans have results, as in BOHB (Falkner et al., ICML 2018,
    arXiv:1807.01774). If there is no such number, it is the one for which most plans have results.

    Attributes:
        plans: Plans with a complete evaluation after this number of epochs.
        values: Their objectives on the scale of `Knowledge.scaled`, where smaller is better, `(n, m)`.
        broken: Plans that were rejected or failed.
        pending: Plans that are being evaluated now.
        others: Plans that have only results after other numbers of epochs.
    """

    plans: Sequence[Plan]
    values: NDArray[np.float64]
    broken: Sequence[Plan] = ()
    pending: Sequence[Plan] = ()
    others: Sequence[Plan] = ()

    @cached_property
    def seen(self) -> set[Plan]:
        """Every plan that must not be proposed again."""
        return {*self.plans, *self.broken, *self.pending, *self.others}


def read_history(knowledge: Knowledge, study: optuna.Study, trial: FrozenTrial) -> History:
    """Return the history of a study.

    Args:
        knowledge: The knowledge of the study's space.
        study: The study.
        trial: The trial for which a plan is proposed. It is left out.
    """
    results: dict[int, dict[Plan, list[float]]] = {0: {}}  # values by fidelity and plan
    broken: dict[Plan, None] = {}
    pending: dict[Plan, None] = {}
    given: dict[Plan, None] = {}
    for other in study.get_trials(deepcopy=False):
        plan = _plan_of(knowledge, other)
        if plan is None or other.number == trial.number or is_void(other):
            continue
        readings = list(_readings(knowledge, other))
        for fidelity, values in readings:
            results.setdefault(fidelity, {}).setdefault(plan, values)  # a repeated plan counts once
        if readings:
            given[plan] = None
        elif "evaluation" in other.user_attrs:
            broken[plan] = None
        else:  # the trial is running, or queued, or was dropped because another driver claimed the plan first
            pending[plan] = None
    # if no number of epochs has enough plans, the one with most plans is used
    longest = max((fidelity for fidelity, of in results.items() if len(of) >= ENOUGH), default=None)
    complete = max(results.values(), key=len) if longest is None else results[longest]
    return History(
        list(complete),
        knowledge.scaled(np.array(list(complete.values()), dtype=float)),
        [plan for plan in broken if plan not in complete],
        [plan for plan in pending if plan not in complete and plan not in broken],
        [plan for plan in given if plan not in complete],
    )


def _readings(knowledge: Knowledge, trial: FrozenTrial) -> Iterator[tuple[int, list[float]]]:
    """For the result of a trial and for each of its rungs, yield the number of epochs and the objectives."""
    if trial.state == TrialState.COMPLETE and np.isfinite(trial.values).all():
        yield trial.user_attrs.get("evaluation", {}).get("fidelity", 0), trial.values
    for rung in trial.user_attrs.get("rungs", ()):
        evaluation = Evaluation(**rung)
        values = evaluation.objectives(knowledge.directions)
        if values is not None and np.isfinite(values).all():
            yield evaluation.fidelity, values


def _plan_of(knowledge: Knowledge, trial: FrozenTrial) -> Plan | None:
    """Return the plan of a trial, from its (queued) parameters or, if the space does not contain it, its record."""
    for params in (trial.params, trial.system_attrs.get("fixed_params", {})):
        if params.keys() >= knowledge.space.parameters.keys():
            return knowledge.plan(params)
    recorded = trial.user_attrs.get("evaluation", trial.user_attrs)
    return Plan.of(recorded["plan"]) if "plan" in recorded else None
