"""The ledger of a search: each trial of an Optuna study is a claim on one plan and seed, then what came of it.

A claim is written as a whole before its evaluation starts, and what came of it as a whole after it ended. So whoever
is killed leaves claims that are running, no half trials, and the next process takes them up under the same number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from nasbench.runs.evaluation import Evaluation
from nasbench.runs.storage import Journal

__all__ = ["Ledger", "evaluation_of", "is_abandoned", "is_void", "state_of"]

_STATES = {"complete": TrialState.COMPLETE, "rejected": TrialState.PRUNED, "failed": TrialState.FAIL}


class Ledger:
    """The trials of one study, written by this process alone.

    Args:
        storage: Where the study lies.
        study: Its name.
        directions: The objectives with their directions.

    Attributes:
        poll_s: Seconds after which there may be news from other processes; None where there are no others.
        budget: Claims there may be, those brought in from another run aside; None for any number.
    """

    poll_s: float | None = None
    budget: int | None = None

    def __init__(self, storage: BaseStorage, study: str, directions: Mapping[str, str]) -> None:
        self.storage, self.directions = storage, dict(directions)
        self.study_id = storage.get_study_id_from_name(study)
        self._ids: dict[int, int] = {}
        self._told = False
        self.count = 0
        self.trials()

    def trials(self) -> list[FrozenTrial]:
        """Return all trials, in order of their numbers. They are not to be changed."""
        trials = self.storage.get_all_trials(self.study_id, deepcopy=False)
        self._ids.update((trial.number, trial._trial_id) for trial in trials)
        self.count = len(trials)
        return trials

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial. It is not to be changed."""
        return self.storage.get_trial(self._ids[number])

    # -- claims ------------------------------------------------------------------------------------------------

    def claim_trial(self, key: str, user_attrs: Mapping[str, Any], proposal: FrozenTrial | None = None) -> int | None:
        """Claim a plan, so that this process evaluates it and no other.

        Args:
            key: What is claimed: a plan's hash, with the seed where several are run.
            user_attrs: What else to note.
            proposal: Gives the parameters, where the plan has any.

        Returns:
            The number of the trial, or None where another process has it.
        """
        return self.add_trial(TrialState.RUNNING, {**user_attrs, "claim": key}, proposal, durable=False)

    def add_trial(
        self,
        state: TrialState,
        user_attrs: Mapping[str, Any],
        proposal: FrozenTrial | None = None,
        values: Sequence[float] | None = None,
        *,
        durable: bool = True,
    ) -> int:
        """Write a trial as a whole and return its number."""
        trial = create_trial(
            state=state,
            values=values,
            params=proposal.params if proposal else {},
            distributions=proposal.distributions if proposal else {},
            user_attrs=dict(user_attrs),
            system_attrs=proposal.system_attrs if proposal else {},
        )
        with self.atomically(durable=durable):
            trial_id = self.storage.create_new_trial(self.study_id, trial)
            number = self.storage.get_trial_number_from_id(trial_id)
        self._ids[number] = trial_id
        self.count = max(self.count, number + 1)
        return number

    def close_trial(self, number: int, evaluation: Evaluation) -> bool:
        """Write the evaluation of a claimed trial and end it.

        Args:
            number: The trial.
            evaluation: What came of it.

        Returns:
            False where another process has taken it over.
        """
        with self.atomically():
            self.annotate_trial(number, evaluation=evaluation.to_dict())
            return self.end_trial(number, state_of(evaluation), evaluation.objectives(self.directions))

    def end_trial(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """End a trial; False where it was ended before."""
        try:
            return self.storage.set_trial_state_values(self._ids[number], state, values)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def annotate_trial(self, number: int, **user_attrs: Any) -> None:
        """Note something on a running trial; nothing where it was ended before."""
        try:
            for key, value in user_attrs.items():
                self.storage.set_trial_user_attr(self._ids[number], key, value)
        except optuna.exceptions.UpdateFinishedTrialError:
            pass

    def atomically(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """Write what is written within as one piece, where the storage can."""
        return self.storage.file.atomically(durable=durable) if isinstance(self.storage, Journal) else nullcontext()

    # -- other processes ---------------------------------------------------------------------------------------

    def is_claimed(self, key: str) -> bool:
        """Whether another claim stands on a plan whose claim was given up."""
        return False

    def owns(self, trial: FrozenTrial) -> bool:
        """Whether a running trial is this process's to take up: with no others, each is."""
        return True

    def new_trials(self) -> list[FrozenTrial]:
        """Return the trials that others have written since it was asked last; at first, all that are there."""
        first, self._told = not self._told, True
        return self.trials() if first else []

    def others_running(self) -> bool:
        """Whether another process is evaluating something."""
        return False


def state_of(evaluation: Evaluation) -> TrialState:
    """Return Optuna's state of a trial that ended so: rejected is PRUNED, failed is FAIL."""
    return _STATES[evaluation.state]


def evaluation_of(trial: FrozenTrial) -> Evaluation | None:
    """Return the evaluation that a trial holds; None where it has none that counts."""
    recorded = trial.user_attrs.get("evaluation")
    if recorded is None or is_void(trial):
        return None
    return Evaluation(**recorded, number=trial.user_attrs.get("number", trial.number))


def is_abandoned(trial: FrozenTrial) -> bool:
    """Whether a trial was given up because its process died: its plan is still wanted."""
    return is_void(trial) and "abandoned" in trial.user_attrs


def is_void(trial: FrozenTrial) -> bool:
    """Whether a trial stands for nothing: its claim was withdrawn, or its process died and another took over."""
    return trial.state == TrialState.FAIL and bool({"withdrawn", "abandoned"} & set(trial.user_attrs))
