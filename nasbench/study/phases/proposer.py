"""Proposes values for the parameters of a space. The Optuna sampler works on a copy of the study in memory.

Optuna writes each suggested parameter to the storage separately, and in a journal file each write waits for the disk.
Because of the copy, a proposal can be written to the storage of the study at once, as one trial.
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
    """A copy of a study in memory, from which samplers propose plans.

    A proposal is a running trial of the copy, with parameters. Later it is either settled (linked to a trial of the
    study) or dropped.

    Args:
        parameters: The choices of every parameter of the space, by name.
        directions: "maximize" or "minimize" for each objective.
        sampler: Creates the sampler for one proposal, given the number that the trial will have in the study.
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
        """Let the sampler propose a plan.

        Args:
            number: The number that the trial will have in the study. The in-memory copy of the study can number trials
                differently.
        """
        with quiet():
            # a new sampler for each proposal, so that a resumed search proposes the same as an uninterrupted one
            self._copy.sampler = self._sampler(number)
            asked = self._copy.ask(self._distributions)
        return self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(self._id, asked.number))

    def fixed(self, params: Mapping[str, str] | None) -> FrozenTrial:
        """Return a proposal with these parameters. None for a plan outside the space, which has no parameters."""
        params = dict(params or {})
        distributions = {name: self._distributions[name] for name in params}
        trial = create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        return self._storage.get_trial(self._storage.create_new_trial(self._id, trial))

    def settle(self, proposal: FrozenTrial, number: int) -> None:
        """Link a proposal to the trial of the study that was made from it."""
        self._ids[number] = proposal._trial_id

    def drop(self, proposal: FrozenTrial) -> None:
        """Discard a proposal that did not become a trial."""
        # otherwise the sampler would regard the trial of the copy as still running
        self._storage.set_trial_state_values(proposal._trial_id, TrialState.FAIL)

    # -- trials of the study -----------------------------------------------------------------------------------

    def add(self, trial: FrozenTrial) -> None:
        """Add a trial of the study to the copy. If the copy has it already, and it has ended in the study, end it."""
        if trial.number not in self._ids:
            self._ids[trial.number] = self._storage.create_new_trial(self._id, trial)
        elif trial.state.is_finished():
            self.end(trial.number, trial.state, trial.values, trial.user_attrs)

    def note(self, number: int, **user_attrs: Any) -> None:
        """Copy to the copy of a running trial the attributes that were recorded in the study."""
        for key, value in user_attrs.items():
            self._storage.set_trial_user_attr(self._ids[number], key, value)

    def end(
        self, number: int, state: TrialState, values: Sequence[float] | None, user_attrs: Mapping[str, Any]
    ) -> None:
        """End a trial of the copy with the state, values and attributes of the trial of the study."""
        trial_id = self._ids[number]
        if self._storage.get_trial(trial_id).state.is_finished():  # this process has ended it already
            return
        for key, value in user_attrs.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        self._storage.set_trial_state_values(trial_id, state, values)
