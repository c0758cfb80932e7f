"""Proposes settings of a space's parameters by an Optuna sampler, on a copy of the study in memory.

Optuna writes each parameter it suggests to the storage by itself, which on a file is a wait for the disk each. Here
the sampler works on a copy in memory; what it proposes goes to the storage as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nasbench.runs.storage import quiet

__all__ = ["Proposer"]


class Proposer:
    """A copy of a study, and the samplers that look at it.

    A proposal is a running trial of the copy, with parameters. It is then given the number of its trial in the study,
    or dropped.

    Args:
        parameters: Name to choices of every parameter of the space.
        directions: "maximize" or "minimize" of each objective.
        sampler: Makes the sampler of one proposal from the number that its trial is to have.
    """

    def __init__(
        self,
        parameters: Mapping[str, Sequence[str]],
        directions: Sequence[str],
        sampler: Callable[[int], BaseSampler],
    ) -> None:
        self._distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(choices) for name, choices in parameters.items()
        }
        self._sampler = sampler
        self._storage = optuna.storages.InMemoryStorage()
        with quiet():
            self._copy = optuna.create_study(
                storage=self._storage, directions=[StudyDirection[d.upper()] for d in directions]
            )
        self._id = self._storage.get_study_id_from_name(self._copy.study_name)
        self._ids: dict[int, int] = {}  # trial number in the study -> trial id in the copy

    # -- proposals ---------------------------------------------------------------------------------------------

    def ask(self, number: int) -> FrozenTrial:
        """Propose by the sampler; `number` is the one that the trial is to have."""
        with quiet():
            self._copy.sampler = self._sampler(number)
            asked = self._copy.ask(self._distributions)
        return self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(self._id, asked.number))

    def fixed(self, params: Mapping[str, str] | None) -> FrozenTrial:
        """Propose these parameters; None for a plan that the space has no parameters for."""
        params = dict(params or {})
        distributions = {name: self._distributions[name] for name in params}
        trial = create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        return self._storage.get_trial(self._storage.create_new_trial(self._id, trial))

    def settle(self, proposal: FrozenTrial, number: int) -> None:
        """Say which trial of the study a proposal has become."""
        self._ids[number] = proposal._trial_id

    def drop(self, proposal: FrozenTrial) -> None:
        """Say that a proposal has become none."""
        self._storage.set_trial_state_values(proposal._trial_id, TrialState.FAIL)

    # -- trials of the study -----------------------------------------------------------------------------------

    def add(self, trial: FrozenTrial) -> None:
        """Take over a trial of the study, or how it ended."""
        if trial.number not in self._ids:
            self._ids[trial.number] = self._storage.create_new_trial(self._id, trial)
        elif trial.state.is_finished():
            self.end(trial.number, trial.state, trial.values, trial.user_attrs)

    def note(self, number: int, **user_attrs: Any) -> None:
        """Say what was noted on a running trial of the study."""
        for key, value in user_attrs.items():
            self._storage.set_trial_user_attr(self._ids[number], key, value)

    def end(
        self, number: int, state: TrialState, values: Sequence[float] | None, user_attrs: Mapping[str, Any]
    ) -> None:
        """Say how a trial of the study ended."""
        trial_id = self._ids[number]
        if self._storage.get_trial(trial_id).state.is_finished():
            return
        for key, value in user_attrs.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        self._storage.set_trial_state_values(trial_id, state, values)
