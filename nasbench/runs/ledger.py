"""The ledger of a search. Each trial of an Optuna study is first a claim on a plan and seed, later its evaluation.

A claim is written atomically before its evaluation, and its result atomically afterwards. A killed process leaves
running claims, never half-written trials. The next process resumes these claims under the same trial numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from nasbench.library.expression import text_hash
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.storage import Journal

__all__ = [
    "PROMOTED", "Ledger", "evaluation_of", "is_abandoned", "is_void", "recorded_evaluation", "retried_numbers",
    "standing", "state_of",
]  # fmt: skip

_OF_THE_PLAN = ("plan", "number", "reason", "wanted")
"""Attributes of a claim that say what is evaluated. A second attempt has them too."""

_STATES = {"complete": TrialState.COMPLETE, "rejected": TrialState.PRUNED, "failed": TrialState.FAIL}


PROMOTED = "promoted"
"""Attribute of a running trial: the number of epochs for which it is trained after a promotion."""


class Ledger:
    """The trials of a study to which only this process writes.

    Args:
        storage: The Optuna storage that contains the study.
        study: The study's name.
        directions: The objectives, each to "maximize" or "minimize".

    Attributes:
        poll_s: Seconds between two checks for new trials of other processes. None if there are no other processes.
        budget: Largest number of claims. Trials imported from another run do not count. None for no limit.
    """

    poll_s: float | None = None
    budget: int | None = None

    def __init__(self, storage: BaseStorage, study: str, directions: Mapping[str, str]) -> None:
        self.storage, self.directions = storage, dict(directions)
        self.study_id = storage.get_study_id_from_name(study)
        self._ids: dict[int, int] = {}  # trial number -> Optuna's id, which differs if a database contains many studies
        self._told = False
        self.count = 0
        self.trials()

    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number. Do not modify them, because they are the storage's own objects."""
        trials = self.storage.get_all_trials(self.study_id, deepcopy=False)
        self._ids.update((trial.number, trial._trial_id) for trial in trials)
        self.count = len(trials)
        return trials

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial. Do not modify it, because it is the storage's own object."""
        return self.storage.get_trial(self._ids[number])

    # -- claims ------------------------------------------------------------------------------------------------

    def claim_trial(self, key: str, user_attrs: Mapping[str, Any], proposal: FrozenTrial | None = None) -> int | None:
        """Claim a plan, so that only this process evaluates it.

        Args:
            key: The claimed plan: its hash and, in a study with several seeds, the seed.
            user_attrs: Further attributes to record with the claim.
            proposal: The sampler's proposal, whose parameters the trial gets. None for a plan without parameters.

        Returns:
            The number of the trial, or None if another process has claimed the plan.
        """
        # Not durable. If a claim is lost in a power cut, the plan is evaluated again. Writing the result waits for the
        # disk, and then the claim is on the disk too.
        return self.add_trial(TrialState.RUNNING, {**user_attrs, "claim": key}, proposal, durable=False)

    def retry_trial(self, failed: FrozenTrial, proposal: FrozenTrial | None = None) -> int | None:
        """Claim the plan of a failed trial again. The failed trial keeps its record, but no longer counts.

        Returns:
            The number of the new trial, or None if another process has claimed the plan.
        """
        attrs = {name: failed.user_attrs[name] for name in _OF_THE_PLAN if name in failed.user_attrs}
        return self.claim_trial(failed.user_attrs["claim"], {**attrs, "retries": failed.number}, proposal)

    def add_trial(
        self,
        state: TrialState,
        user_attrs: Mapping[str, Any],
        proposal: FrozenTrial | None = None,
        values: Sequence[float] | None = None,
        *,
        durable: bool = True,
    ) -> int:
        """Write a trial with all its attributes at once, and return its number."""
        trial = create_trial(
            state=state,
            values=values,
            params=proposal.params if proposal else {},
            distributions=proposal.distributions if proposal else {},
            user_attrs=dict(user_attrs),
            system_attrs=proposal.system_attrs if proposal else {},
        )
        # without this context, the storage would wait for the disk after each write
        with self.atomically(durable=durable):
            trial_id = self.storage.create_new_trial(self.study_id, trial)
            number = self.storage.get_trial_number_from_id(trial_id)
        self._ids[number] = trial_id
        self.count = max(self.count, number + 1)
        return number

    def close_trial(self, number: int, evaluation: Evaluation) -> bool:
        """Write the evaluation of a claimed trial, and end the trial.

        Args:
            number: The trial.
            evaluation: Its evaluation.

        Returns:
            False if another process has taken over the trial.
        """
        with self.atomically():
            self.annotate_trial(number, evaluation=evaluation.to_dict())
            return self.end_trial(number, state_of(evaluation), evaluation.objectives(self.directions))

    def end_trial(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """End a trial. Return False if it had ended before."""
        try:
            return self.storage.set_trial_state_values(self._ids[number], state, values)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def annotate_trial(self, number: int, **user_attrs: Any) -> None:
        """Record attributes of a running trial. Does nothing if the trial has ended."""
        try:
            for key, value in user_attrs.items():
                self.storage.set_trial_user_attr(self._ids[number], key, value)
        except optuna.exceptions.UpdateFinishedTrialError:
            pass

    def atomically(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """Return a context in which all writes are stored together or not at all, if the storage supports this."""
        return self.storage.file.atomically(durable=durable) if isinstance(self.storage, Journal) else nullcontext()

    # -- other processes ---------------------------------------------------------------------------------------

    def is_claimed(self, key: str) -> bool:
        """Whether a plan whose claim was abandoned has another valid claim."""
        return False

    def owns(self, trial: FrozenTrial) -> bool:
        """Whether this process can resume a running trial. Without other processes, it can resume every trial."""
        return True

    def new_trials(self) -> list[FrozenTrial]:
        """Return the trials that other processes have written since the last call. The first call returns all."""
        first, self._told = not self._told, True
        return self.trials() if first else []

    def others_running(self) -> bool:
        """Whether another process is evaluating a plan."""
        return False


def state_of(evaluation: Evaluation) -> TrialState:
    """Return Optuna's state of a trial with this evaluation: "rejected" is PRUNED, "failed" is FAIL."""
    return _STATES[evaluation.state]


def evaluation_of(trial: FrozenTrial) -> Evaluation | None:
    """Return the evaluation of a trial, or None if the trial has none that a search can have written, or is void."""
    try:
        return recorded_evaluation(trial)
    except (ValueError, TypeError, AttributeError):
        return None


def recorded_evaluation(trial: FrozenTrial) -> Evaluation | None:
    """Return the evaluation of a trial as it was recorded, or None if the trial has none or is void.

    Raises:
        ValueError: If its hash is not the hash of its plan.
        TypeError: If it is not a mapping, or if its names are not those of `Evaluation`.
    """
    recorded = trial.user_attrs.get("evaluation")
    if recorded is None or is_void(trial):
        return None
    # a further seed of a finalist is a trial of another study, so "number" gives the finalist's trial in the search
    evaluation = Evaluation(**recorded, number=trial.user_attrs.get("number", trial.number))
    # The hash is the name of files, and in a database anybody can write it.
    if evaluation.plan_hash != text_hash(evaluation.plan):
        raise ValueError(f"its plan_hash {str(evaluation.plan_hash)[:40]!r} is not the hash of its plan")
    return evaluation


def standing(trials: Iterable[FrozenTrial]) -> dict[str, FrozenTrial]:
    """Return the valid claim on each plan, by key: the first claim that is not void and has no second attempt."""
    trials = list(trials)
    retried = retried_numbers(trials)
    valid: dict[str, FrozenTrial] = {}
    for trial in trials:
        if "claim" in trial.user_attrs and not is_void(trial) and trial.number not in retried:
            valid.setdefault(trial.user_attrs["claim"], trial)  # trials come in order of their numbers
    return valid


def retried_numbers(trials: Iterable[FrozenTrial], *, ended: bool = False) -> set[int]:
    """Return the numbers of the failed trials that have a second attempt. A void attempt does not count.

    Args:
        trials: The trials of a study.
        ended: Whether an attempt counts only if it has ended.
    """
    return {
        trial.user_attrs["retries"]
        for trial in trials
        if "retries" in trial.user_attrs and not is_void(trial) and (trial.state.is_finished() or not ended)
    }


def is_abandoned(trial: FrozenTrial) -> bool:
    """Whether a trial was abandoned because its process died. Its plan must still be evaluated."""
    return is_void(trial) and "abandoned" in trial.user_attrs


def is_void(trial: FrozenTrial) -> bool:
    """Whether a trial is void: its claim was withdrawn, or it was abandoned when its process died.

    Optuna cannot delete a trial of a study, so a void trial stays in the study as failed.
    """
    return trial.state == TrialState.FAIL and bool({"withdrawn", "abandoned"} & set(trial.user_attrs))
