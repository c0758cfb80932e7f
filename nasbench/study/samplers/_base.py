"""The base class of samplers that choose a plan as a whole. It implements Optuna's sampler interface."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from nasbench.library.plan import Plan
from nasbench.study.samplers.history import History, read_history
from nasbench.study.samplers.knowledge import Knowledge, stream

__all__ = ["PlanSampler"]


class PlanSampler(BaseSampler):
    """Proposes one plan at a time, and gives Optuna the parameters that represent this plan.

    A proposal depends only on the study's seed, the trial's number and the trials so far.

    Args:
        knowledge: The knowledge of the space.
        number: The trial's number in the study. The in-memory copy of the study can number trials differently.
    """

    def __init__(self, knowledge: Knowledge, number: int) -> None:
        self.knowledge, self.number = knowledge, number

    def propose(self, history: History, rng: random.Random) -> Plan | None:
        """Return the plan to evaluate next. None if a plan is to be drawn uniformly from the unseen plans."""
        raise NotImplementedError

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every parameter of the space, because a plan is chosen as a whole."""
        if set(trial.system_attrs.get("fixed_params", {})) >= set(self.knowledge.space.parameters):
            return {}  # all parameters of a queued trial are fixed, so there is nothing to choose
        return {name: CategoricalDistribution(choices) for name, choices in self.knowledge.space.parameters.items()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the plan to evaluate next. If every plan was seen, this is a random plan."""
        if not search_space:
            return {}
        history = read_history(self.knowledge, study, trial)
        rng = stream(self.knowledge.seed, self.number)
        plan = self.propose(history, rng)
        if plan is None:  # not `plan or ...`, because the bare plan is an empty mapping and therefore false
            plan = self.unseen(history, rng)
        params = self.knowledge.space.params(self.knowledge.space.sample(rng) if plan is None else plan)
        assert params is not None, f"a plan outside the space was proposed: {plan}"
        return dict(params)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a value uniformly. Optuna calls this only for a trial that was queued with some of its parameters."""
        assert isinstance(param_distribution, CategoricalDistribution)
        return stream(self.knowledge.seed, self.number, param_name).choice(param_distribution.choices)

    def unseen(self, history: History, rng: random.Random) -> Plan | None:
        """Draw an unseen plan uniformly, if possible from the plans that break no known constraint.

        Return None if every plan was seen.
        """
        seen = {plan.hash for plan in history.seen}
        found = self.knowledge.unseen(seen, rng, (*history.plans, *history.others))
        # if none was found, every plan that is left breaks a constraint, or those that break none are too rare
        return self.knowledge.space.sample_unseen(rng, seen) if found is None else found
