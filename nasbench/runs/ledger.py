"""The ledger of a search. A trial of the Optuna study first claims a plan and seed, and later has their evaluation.

A claim is written atomically before the plan is evaluated, and the evaluation is written atomically afterwards. A
killed process leaves running claims, but never half-written trials. The next process resumes these claims under the
same trial numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
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
"""Attributes of a claim that say what is evaluated. They are copied if a failed trial is tried again."""

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
        poll_s: Seconds between two checks for new trials of other processes. None if no other process can write.
        budget: Largest number of claims. Trials imported from another run do not count. None if there is no limit.
    """

    poll_s: float | None = None
    budget: int | None = None

    def __init__(self, storage: BaseStorage, study: str, directions: Mapping[str, str]) -> None:
        self.storage, self.directions = storage, dict(directions)
        self.study_id = storage.get_study_id_from_name(study)
        self._ids: dict[int, int] = {}  # trial number -> Optuna's id; they differ if a database has several studies
        self._told = False
        self.count = 0
        self.trials()

    def trials(self) -> list[FrozenTrial]:
        """Return all trials, sorted by number. Do not modify them, because they are the storage's own objects."""
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
            key: What is claimed: the hash of the plan and, in a study with several seeds, the seed.
            user_attrs: Further attributes to record with the claim.
            proposal: The sampler's proposal, whose parameters are copied to the trial. None if the plan has no
                parameters of the sampler.

        Returns:
            The number of the trial, or None if another process has claimed the plan.
        """
        # The write does not wait for the disk. If a claim is lost in a power cut, the plan is evaluated again. Writing
        # the evaluation waits for the disk, and also brings the claim to the disk.
        return self.add_trial(TrialState.RUNNING, {**user_attrs, "claim": key}, proposal, durable=False)

    def retry_trial(self, failed: FrozenTrial, proposal: FrozenTrial | None = None) -> int | None:
        """Claim the plan of a failed trial again. The failed trial stays in the study, but no longer counts.

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
            False if another process has taken over the trial and ended it.
        """
        with self.atomically():
            self.annotate_trial(number, evaluation=evaluation.to_dict())
            return self.end_trial(number, state_of(evaluation), evaluation.objectives(self.directions))

    def end_trial(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """End a trial. Return False if it has ended before."""
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
        """Whether a plan has a valid claim, after an earlier claim on it was abandoned."""
        return False

    def owns(self, trial: FrozenTrial) -> bool:
        """Whether this process can resume a running trial. It can resume every trial if no other process can write."""
        return True

    def new_trials(self) -> list[FrozenTrial]:
        """Return the trials that other processes wrote since the last call. The first call returns all trials."""
        first, self._told = not self._told, True
        return self.trials() if first else []

    def others_running(self) -> bool:
        """Whether another process is evaluating a plan."""
        return False


def state_of(evaluation: Evaluation) -> TrialState:
    """Return the Optuna state of a trial with this evaluation: a rejected one is PRUNED, a failed one is FAIL."""
    return _STATES[evaluation.state]


def evaluation_of(trial: FrozenTrial) -> Evaluation | None:
    """Return the evaluation of a trial. None if it is missing, no search can have written it, or the trial is void."""
    try:
        return recorded_evaluation(trial)
    except (ValueError, TypeError, AttributeError):
        return None


def recorded_evaluation(trial: FrozenTrial) -> Evaluation | None:
    """Return the evaluation of a trial as it was recorded, or None if the trial has no evaluation or is void.

    A further seed that was rejected after its training counts as complete.

    Raises:
        ValueError: If the recorded hash is not the hash of the recorded plan.
        TypeError: If the record is not a mapping, or if its keys are not the fields of `Evaluation`.
    """
    recorded = trial.user_attrs.get("evaluation")
    if recorded is None or is_void(trial):
        return None
    # A further seed of a finalist is a trial of another study. Its attribute "number" is the finalist's trial in the
    # search.
    evaluation = Evaluation(**recorded, number=trial.user_attrs.get("number", trial.number))
    # The hash becomes part of file names, and anybody who can use the database can write a wrong one.
    if evaluation.plan_hash != text_hash(evaluation.plan):
        raise ValueError(f"its plan_hash {str(evaluation.plan_hash)[:40]!r} is not the hash of its plan")
    if evaluation.state == "rejected" and evaluation.metrics and "wanted" in trial.user_attrs:
        # Earlier versions rejected a further seed whose metric broke a bound, so a plan lost its bad seeds.
        return replace(evaluation, state="complete", reason="")
    return evaluation


def standing(trials: Iterable[FrozenTrial]) -> dict[str, FrozenTrial]:
    """Return the valid claim on each plan, by key: the first claim that is not void and was not tried again."""
    trials = list(trials)
    retried = retried_numbers(trials)
    valid: dict[str, FrozenTrial] = {}
    for trial in trials:
        if "claim" in trial.user_attrs and not is_void(trial) and trial.number not in retried:
            valid.setdefault(trial.user_attrs["claim"], trial)  # trials are in order of their numbers
    return valid


def retried_numbers(trials: Iterable[FrozenTrial], *, ended: bool = False) -> set[int]:
    """Return the numbers of the failed trials that were tried again. A void attempt does not count.

    Args:
        trials: The trials of a study.
        ended: Whether the second attempt counts only if it has ended.
    """
    return {
        trial.user_attrs["retries"]
        for trial in trials
        if "retries" in trial.user_attrs and not is_void(trial) and (trial.state.is_finished() or not ended)
    }


def is_abandoned(trial: FrozenTrial) -> bool:
    """Whether a trial was abandoned because its process died. The plan must then still be evaluated."""
    return is_void(trial) and "abandoned" in trial.user_attrs


def is_void(trial: FrozenTrial) -> bool:
    """Whether a trial is void: the claim was withdrawn, or the trial was abandoned because its process died.

    Optuna cannot delete a trial from a study, so a void trial stays in the study with the state FAIL.
    """
    return trial.state == TrialState.FAIL and bool({"withdrawn", "abandoned"} & set(trial.user_attrs))
