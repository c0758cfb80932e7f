"""What a study holds so far, as a sampler reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nasbench.ledger import is_void
from nasbench.plan import Plan
from nasbench.samplers.knowledge import Knowledge

__all__ = ["History", "read_history"]


@dataclass(frozen=True)
class History:
    """The trials of a study, in order; each plan once.

    Attributes:
        plans: Plans evaluated to the end.
        values: Their objectives on the scale of `Knowledge.scaled`: smaller is better, `(n, m)`.
        broken: Plans that were rejected or failed.
        pending: Plans that are being evaluated now.
    """

    plans: Sequence[Plan]
    values: NDArray[np.float64]
    broken: Sequence[Plan] = ()
    pending: Sequence[Plan] = ()

    @cached_property
    def seen(self) -> set[Plan]:
        """Every plan that need not be proposed again."""
        return {*self.plans, *self.broken, *self.pending}


def read_history(knowledge: Knowledge, study: optuna.Study, trial: FrozenTrial) -> History:
    """Read a study.

    Args:
        knowledge: Of its space.
        study: The study.
        trial: The trial that is being proposed, which is left out.
    """
    complete: dict[Plan, list[float]] = {}
    broken: dict[Plan, None] = {}
    pending: dict[Plan, None] = {}
    for other in study.get_trials(deepcopy=False):
        plan = _plan_of(knowledge, other)
        if plan is None or other.number == trial.number or is_void(other):
            continue
        if other.state == TrialState.COMPLETE and np.isfinite(other.values).all():
            complete.setdefault(plan, other.values)
        elif "evaluation" in other.user_attrs:
            broken[plan] = None
        else:  # running, queued, or dropped because another process was quicker
            pending[plan] = None
    return History(
        list(complete),
        knowledge.scaled(np.array(list(complete.values()), dtype=float)),
        [plan for plan in broken if plan not in complete],
        [plan for plan in pending if plan not in complete and plan not in broken],
    )


def _plan_of(knowledge: Knowledge, trial: FrozenTrial) -> Plan | None:
    """Return the plan of a trial: from its parameters, its queued parameters or, outside the space, its record."""
    for params in (trial.params, trial.system_attrs.get("fixed_params", {})):
        if params.keys() >= knowledge.space.parameters.keys():
            return knowledge.plan(params)
    recorded = trial.user_attrs.get("evaluation", trial.user_attrs)
    return Plan.of(recorded["plan"]) if "plan" in recorded else None
