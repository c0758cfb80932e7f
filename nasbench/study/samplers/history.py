"""The trials of a study so far, as a sampler reads them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nasbench.library.plan import Plan
from nasbench.objectives import COSTS
from nasbench.runs.ledger import is_void
from nasbench.study.samplers.knowledge import Knowledge

__all__ = ["ENOUGH", "History", "Readings", "read_history"]

FloatArray = NDArray[np.float64]

ENOUGH = 8
"""If at least this number of plans have results of a longer training, these results are used instead of those of a
shorter one."""


@dataclass(frozen=True)
class Readings:
    """Values that evaluations returned, one row for each plan and number of epochs. They need not be complete.

    A plan that was rejected because it breaks a bound has the values that were known by then. With successive halving,
    a plan has a row for each rung.

    Attributes:
        plans: The plan of each row.
        values: Mean values over the seeds, in the order of `Knowledge.names`, `(n, k)`. nan for a missing value.
        counts: Number of seeds, `(n,)`.
        squares: Sums of squared differences from the mean over the seeds, `(n, k)`. 0 for a single seed.
        epochs: Number of training epochs, `(n,)`. 0 without training.
    """

    plans: Sequence[Plan]
    values: FloatArray
    counts: FloatArray
    squares: FloatArray
    epochs: FloatArray

    def __len__(self) -> int:
        return len(self.plans)


@dataclass(frozen=True)
class History:
    """The plans of a study in the order of their trials, without repeats.

    With successive halving, trainings have different numbers of epochs. In `plans` and `values`, only results with the
    same number of epochs are compared: the largest number for which at least `ENOUGH` plans have results, as in BOHB
    (Falkner et al., ICML 2018, arXiv:1807.01774). If there is no such number, it is the one for which most plans have
    results.

    Attributes:
        knowledge: The knowledge of the study's space.
        complete: Objectives of the plans with a complete evaluation after this number of epochs that break no bound.
        broken: Plans that were rejected or failed, or that break a bound.
        pending: Plans that are being evaluated now.
        others: Plans that have only results after other numbers of epochs.
        evaluated: Every evaluated plan.
        found: Every result of a trial.
        bare: Values of the bare backbone by name. Empty if it was not evaluated.
        failed: Plans whose evaluation failed. They can have values nevertheless.
    """

    knowledge: Knowledge
    complete: Mapping[Plan, Sequence[float]]
    broken: Sequence[Plan]
    pending: Sequence[Plan]
    others: Sequence[Plan]
    evaluated: Sequence[Plan]
    found: Sequence[_Reading]
    bare: Mapping[str, Any]
    failed: Set[Plan]

    @cached_property
    def plans(self) -> Sequence[Plan]:
        """The plans of `complete`."""
        return list(self.complete)

    # A sampler that draws plans uses none of these three, which take long with a thousand trials.

    @cached_property
    def values(self) -> FloatArray:
        """The objectives of `plans` on the scale of `Knowledge.scaled`, where smaller is better, `(n, m)`."""
        return self.knowledge.scaled(np.array(list(self.complete.values()), dtype=float))

    @cached_property
    def readings(self) -> Readings:
        """All values that evaluations returned."""
        return _table(self.knowledge, self.found)

    @cached_property
    def outcomes(self) -> Sequence[tuple[Plan, bool]]:
        """For each evaluated plan, whether its evaluation succeeded.

        Plans that are rejected because of a bound are left out, unless they have all objectives.
        """
        outcomes = _outcomes(self.knowledge, self.evaluated, self.found, _full(self.found), self.bare)
        return [(plan, succeeded and plan not in self.failed) for plan, succeeded in outcomes]

    @cached_property
    def seen(self) -> set[Plan]:
        """Every plan that must not be proposed again."""
        return {*self.plans, *self.broken, *self.pending, *self.others}


@dataclass(frozen=True)
class _Reading:
    """One result of a trial.

    Attributes:
        plan: The plan.
        epochs: Number of training epochs.
        values: The values by name.
        trained: Names of the values that depend on the training.
        complete: Whether it is a complete evaluation.
    """

    plan: Plan
    epochs: int
    values: Mapping[str, Any]
    trained: Set[str]
    complete: bool


def read_history(knowledge: Knowledge, study: optuna.Study, trial: FrozenTrial) -> History:
    """Return the history of a study.

    Args:
        knowledge: The knowledge of the study's space.
        study: The study.
        trial: The trial for which a plan is proposed. It is left out.
    """
    trials: dict[Plan, FrozenTrial] = {}
    readings: dict[tuple[Plan, int], _Reading] = {}
    pending: dict[Plan, None] = {}
    for other in study.get_trials(deepcopy=False):
        plan = _plan_of(knowledge, other)
        # a proposal that a known constraint refused is a repeat without values
        refused = other.state == TrialState.FAIL and "repeats" in other.user_attrs
        if plan is None or other.number == trial.number or is_void(other) or refused:
            continue
        found = list(_readings(knowledge, plan, other))
        for one in found:
            readings.setdefault((plan, one.epochs), one)  # a repeated plan counts once
        if found or "evaluation" in other.user_attrs:
            trials.setdefault(plan, other)
        else:
            # the trial is running, or queued, or was dropped because another driver claimed the plan first
            pending[plan] = None
    bare = max((one for (plan, _), one in readings.items() if plan.is_bare), key=lambda one: one.epochs, default=None)
    full = _full(readings.values())
    reference: Mapping[str, Any] = {} if bare is None else _bounded(knowledge, bare, full)
    results: dict[int, dict[Plan, list[float]]] = {0: {}}  # objectives by number of epochs and plan
    for (plan, epochs), one in readings.items():
        if one.complete and knowledge.keeps_bounds(_bounded(knowledge, one, full), reference):
            results.setdefault(epochs, {})[plan] = [float(one.values[name]) for name in knowledge.directions]
    # if no number of epochs has enough plans, the one with most plans is used
    longest = max((epochs for epochs, of in results.items() if len(of) >= ENOUGH), default=None)
    complete = max(results.values(), key=len) if longest is None else results[longest]
    others = {plan for of in results.values() for plan in of if plan not in complete}
    broken = [plan for plan in trials if plan not in complete and plan not in others]
    return History(
        knowledge,
        complete,
        broken,
        [plan for plan in pending if plan not in trials],
        [plan for plan in trials if plan in others],
        list(trials),
        list(readings.values()),
        reference,
        {plan for plan, one in trials.items() if one.user_attrs.get("evaluation", {}).get("state") == "failed"},
    )


def _full(readings: Iterable[_Reading]) -> int:
    """Return the largest number of epochs."""
    return max((one.epochs for one in readings), default=0)


def _table(knowledge: Knowledge, readings: Sequence[_Reading]) -> Readings:
    """Return the readings as arrays, each at the full budget with the further trainings of its plan."""
    full = _full(readings)
    shape = (len(readings), len(knowledge.names))
    means, counts, squares = np.full(shape, np.nan), np.ones(len(readings)), np.zeros(shape)
    for index, one in enumerate(readings):
        seeds = _seeds(knowledge, one, full)
        rows = np.array([[_number(of.get(name)) for name in knowledge.names] for of in seeds])
        means[index], counts[index] = rows.mean(axis=0), len(rows)
        squares[index] = ((rows - means[index]) ** 2).sum(axis=0)
    epochs = np.array([one.epochs for one in readings], dtype=float)
    return Readings([one.plan for one in readings], means, counts, squares, epochs)


def _seeds(knowledge: Knowledge, one: _Reading, full: int) -> list[Mapping[str, Any]]:
    """Return the values of a reading and, if it is complete and at the full budget, those of the further seeds."""
    return [one.values, *(knowledge.repeats.get(one.plan, ()) if one.complete and one.epochs == full else ())]


def _bounded(knowledge: Knowledge, one: _Reading, full: int) -> Mapping[str, Any]:
    """Return the values of a reading to judge by the bounds. Those that have a bound are the means over the seeds.

    Values that depend on the training are judged at the full budget only.
    """
    if one.epochs < full:
        return {name: value for name, value in one.values.items() if name not in one.trained}
    seeds = _seeds(knowledge, one, full)
    names = {bound.name for bound in knowledge.bounds if bound.name in one.values}
    means = {name: statistics.mean(float(of[name]) for of in seeds if name in of) for name in names}
    return {**one.values, **means}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else np.nan


def _outcomes(
    knowledge: Knowledge, plans: Iterable[Plan], readings: Sequence[_Reading], full: int, bare: Mapping[str, Any]
) -> Iterator[tuple[Plan, bool]]:
    """Yield whether the evaluation of each plan succeeded. A plan that only breaks a bound has not failed."""
    rejected = {
        one.plan
        for one in readings
        if not knowledge.keeps_bounds(_bounded(knowledge, one, full) if one.epochs else one.values, bare)
    }
    whole = {one.plan for one in readings if all(name in one.values for name in knowledge.directions)}
    for plan in plans:
        if plan in whole:
            yield plan, True
        elif plan not in rejected and knowledge.allowed(plan):
            yield plan, False


def _readings(knowledge: Knowledge, plan: Plan, trial: FrozenTrial) -> Iterator[_Reading]:
    """Yield the result of a trial and those of its rungs."""
    recorded = trial.user_attrs.get("evaluation", {})
    for record in (*trial.user_attrs.get("rungs", ()), recorded):
        values: dict[str, Any] = {}
        for kind in ("proxies", "costs", "metrics"):
            values |= record.get(kind, {})
        whole = all(np.isfinite(_number(values.get(name))) for name in knowledge.directions)
        complete = whole and record.get("state", "complete") == "complete"
        if record is recorded and trial.state == TrialState.COMPLETE and np.isfinite(trial.values).all():
            values |= dict(zip(knowledge.directions, trial.values, strict=True))
            complete = True
        if complete or any(np.isfinite(_number(values.get(name))) for name in knowledge.names):
            trained = record.get("metrics", {}).keys() - set(COSTS)
            yield _Reading(plan, record.get("fidelity", 0), values, trained, complete)


def _plan_of(knowledge: Knowledge, trial: FrozenTrial) -> Plan | None:
    """Return the plan of a trial, from its (queued) parameters or, if the space does not contain it, its record."""
    for params in (trial.params, trial.system_attrs.get("fixed_params", {})):
        if params.keys() >= knowledge.space.parameters.keys():
            return knowledge.plan(params)
    recorded = trial.user_attrs.get("evaluation", trial.user_attrs)
    return Plan.of(recorded["plan"]) if "plan" in recorded else None
