"""The ledger of a study that several machines share through a database. Their drivers agree on claims without locks.

A driver is the process that searches on one machine. It claims a plan by writing a running trial. The database numbers
the trials in the order in which they are written. If several trials claim the same plan, the trial with the lowest
number is the valid claim. A driver that sees a lower number than its own withdraws its own claim. The valid claims, in
order of their numbers, use up the budget. So any two drivers that read the same trials agree on every claim.

Each driver has a heartbeat, an attribute of the study, whose value it changes every few seconds. A driver whose
heartbeat has not changed for 60 s on the observer's clock is considered dead. Its running trials are marked abandoned
and can be claimed by any other driver. Clocks of different machines are never compared.
"""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import PROMOTED, Ledger, evaluation_of, is_abandoned, is_void, standing

__all__ = ["HEARTBEAT", "SharedLedger", "pack_items", "unpack_items"]

HEARTBEAT = "driver "
"""Prefix of the study attributes that contain heartbeats."""

BEAT_S = 5.0
"""Seconds between two heartbeats of a driver."""

DEAD_S = 60.0
"""A driver whose heartbeat has not changed for more seconds than this is considered dead."""

DEAF_S = 30.0
"""If more seconds than this pass between two checks of the heartbeats, the observer starts counting again from zero.

Such a gap occurs when the database does not answer. The other drivers cannot write heartbeats during this time either,
so missing heartbeats do not mean that they are dead.
"""


class SharedLedger(Ledger):
    """The trials of one study to which several drivers write.

    Args:
        storage: The Optuna storage that holds the study.
        study: The study's name.
        directions: The objectives, each to "maximize" or "minimize".
        driver: Name of this driver. A driver that was killed and is started again has the same name.
    """

    poll_s = 1.0

    def __init__(self, storage: BaseStorage, study: str, directions: Mapping[str, str], driver: str) -> None:
        super().__init__(storage, study, directions)
        self.driver = driver
        self._states: dict[int, tuple[Any, ...]] = {}  # progress of each trial at the last `new_trials`
        # attribute of each driver -> its last heartbeat, and the time at which this process first saw it
        self._signs: dict[str, tuple[Any, float]] = {}
        self._looked = time.monotonic()
        self._beats, self._beaten = 0, -BEAT_S  # the first heartbeat is due at once
        self.beat()

    def claim_trial(self, key: str, user_attrs: Mapping[str, Any], proposal: FrozenTrial | None = None) -> int | None:
        """Claim a plan. Return the trial number, or None if another driver has claimed it or the budget is used up."""
        # Write the claim first, then read. A driver that reads first can miss a claim that is written after it has
        # read.
        attrs = {**user_attrs, "claim": key, "driver": self.driver}
        number = self.add_trial(TrialState.RUNNING, attrs, proposal)
        trials = self.trials()
        if standing(trials)[key].number == number and not self._over_budget(number, key, trials):
            return number
        self.annotate_trial(number, withdrawn=True)
        self.end_trial(number, TrialState.FAIL)
        return None

    def close_trial(self, number: int, evaluation: Evaluation) -> bool:
        """Write the evaluation of a claimed trial to the database. Return False if another driver took over the trial.

        The metric of each validation item is written to the database too, because other machines cannot read this run
        folder.
        """
        # written before the evaluation, so that every evaluation in the database has its items
        if evaluation.items is not None:
            self.annotate_trial(number, items=pack_items(evaluation.items))
        return super().close_trial(number, evaluation) and not is_void(self.trial(number))

    def is_claimed(self, key: str) -> bool:
        """Whether a plan has a valid claim."""
        return key in standing(self.trials())

    def owns(self, trial: FrozenTrial) -> bool:
        """Whether this driver claimed the trial, perhaps before it was killed and started again."""
        return trial.user_attrs.get("driver") == self.driver

    def new_trials(self) -> list[FrozenTrial]:
        """Return the trials that other drivers have changed since the last call, and write a heartbeat if one is due.

        The first call returns all trials. Later calls also return those trials of this driver that another driver has
        marked abandoned.
        """
        self.beat()
        self._abandon_dead()
        first, self._told = not self._told, True
        changed = [trial for trial in self.trials() if self._states.get(trial.number) != _progress(trial)]
        self._states.update((trial.number, _progress(trial)) for trial in changed)
        return changed if first else [trial for trial in changed if not self.owns(trial) or is_void(trial)]

    def others_running(self) -> bool:
        """Whether another driver is evaluating a plan. A dead driver counts until it is considered dead."""
        valid = standing(self.trials()).values()
        return any(trial.state == TrialState.RUNNING and not self.owns(trial) for trial in valid)

    def beat(self) -> None:
        """Write this driver's heartbeat, if one is due."""
        if time.monotonic() - self._beaten >= BEAT_S:
            self._beats, self._beaten = self._beats + 1, time.monotonic()
            # Observers notice only that the value changes. Because of the time, it differs from the values that this
            # driver wrote before it was started again.
            sign = f"{time.time_ns()} {self._beats}"
            self.storage.set_study_user_attr(self.study_id, f"{HEARTBEAT}{self.driver}", sign)

    def _abandon_dead(self) -> None:
        """Mark the running trials of dead drivers as abandoned, and end them."""
        now = time.monotonic()
        if now - self._looked > DEAF_S:
            self._signs.clear()
        self._looked = now
        for name, sign in self.storage.get_study_user_attrs(self.study_id).items():
            if name.startswith(HEARTBEAT) and self._signs.get(name, (None,))[0] != sign:
                self._signs[name] = (sign, now)
        dead = {name for name, (_, since) in self._signs.items() if now - since > DEAD_S}
        for trial in self.trials():
            if trial.state == TrialState.RUNNING and f"{HEARTBEAT}{trial.user_attrs.get('driver')}" in dead:
                # Mark the trial before ending it, because Optuna sets no attributes of a finished trial. If the other
                # driver was only slow, both drivers may try to end the trial. Only one of them succeeds, and the other
                # sees that the trial has ended.
                self.annotate_trial(trial.number, abandoned=True)
                self.end_trial(trial.number, TrialState.FAIL)

    def _over_budget(self, number: int, key: str, trials: Sequence[FrozenTrial]) -> bool:
        """Whether claims with lower numbers have used up the budget. Abandoned claims of dead drivers count too."""
        if self.budget is None:
            return False
        # An abandoned plan keeps its place in the budget until it is claimed again. Otherwise a new plan would take
        # this place, and the abandoned plan could not be evaluated within the budget. A plan whose failed trial is
        # tried again keeps the place of its first claim.
        first = _first_claims(trials)
        before = {other for other, trial in first.items() if trial.number < number and not _is_reused(trial)}
        left = {trial.user_attrs["claim"] for trial in trials if is_abandoned(trial)} - set(first)
        return len((before | left) - {key}) >= self.budget


def pack_items(per_item: NDArray[np.float64]) -> str:
    """Return numbers as text for a database: compressed 32-bit little-endian floats in base64."""
    return base64.b64encode(zlib.compress(per_item.astype("<f4").tobytes())).decode()


def unpack_items(text: str) -> NDArray[np.float64]:
    """Return the numbers that `pack_items` packed, with about 7 significant digits."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<f4").astype(np.float64)


def _first_claims(trials: Iterable[FrozenTrial]) -> dict[str, FrozenTrial]:
    """Return the first claim on each plan that is not void, also if it failed and the plan was tried again."""
    valid: dict[str, FrozenTrial] = {}
    for trial in trials:
        if "claim" in trial.user_attrs and not is_void(trial):
            valid.setdefault(trial.user_attrs["claim"], trial)  # trials are in order of their numbers
    return valid


def _progress(trial: FrozenTrial) -> tuple[Any, ...]:
    """Return what other drivers must know about a trial: its state, number of finished rungs, and last promotion."""
    return trial.state, len(trial.user_attrs.get("rungs", ())), trial.user_attrs.get(PROMOTED)


def _is_reused(trial: FrozenTrial) -> bool:
    evaluation = evaluation_of(trial)
    return evaluation is not None and bool(evaluation.reused_from)
