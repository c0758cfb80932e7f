"""A study that several machines share through a database: who evaluates what is settled without locks.

Each driver (the process that searches on one machine) claims by writing a running trial. Numbers are given by the
database, one after the other; of several claims on one plan the lowest number stands, and who sees a lower one than
its own withdraws. The budget is counted over the claims that stand, in order of number. So any two drivers that read
the same trials agree on every claim.

A driver counts up an entry of its own every few seconds. One that stood still for a minute, by the watch of whoever
looks, is dead: its running trials are ended as abandoned, and claimed anew by whoever comes first.
"""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import Ledger, evaluation_of, is_abandoned, is_void

__all__ = ["SharedLedger", "pack_items", "unpack_items"]

BEAT_S = 5.0
"""Seconds between two signs of life of a driver."""

DEAD_S = 60.0
"""Seconds without a sign of life after which a driver counts as dead."""

DEAF_S = 30.0
"""Seconds between two looks of a driver, as while the database is away, after which it begins to watch anew."""


class SharedLedger(Ledger):
    """The trials of one study, written by this driver among others.

    Args:
        storage: Where the study lies.
        study: Its name.
        directions: The objectives with their directions.
        driver: What this driver is called; the same again where it goes on after it was killed.
    """

    poll_s = 1.0

    def __init__(self, storage: BaseStorage, study: str, directions: Mapping[str, str], driver: str) -> None:
        super().__init__(storage, study, directions)
        self.driver = driver
        self._states: dict[int, TrialState] = {}  # as they were told last
        self._signs: dict[str, tuple[Any, float]] = {}  # driver -> its last sign of life, when it was first seen
        self._looked = time.monotonic()
        self._beats, self._beaten = 0, -BEAT_S
        self.beat()

    def claim_trial(self, key: str, user_attrs: Mapping[str, Any], proposal: FrozenTrial | None = None) -> int | None:
        """Claim a plan; None where another driver has it, or others have spent the budget."""
        attrs = {**user_attrs, "claim": key, "driver": self.driver}
        number = self.add_trial(TrialState.RUNNING, attrs, proposal)
        trials = self.trials()
        standing = _standing(trials)
        if standing[key].number == number and not self._over_budget(number, key, standing, trials):
            return number
        self.annotate_trial(number, withdrawn=True)
        self.end_trial(number, TrialState.FAIL)
        return None

    def close_trial(self, number: int, evaluation: Evaluation) -> bool:
        """Write the evaluation of a claimed trial for all to see; False where another driver has taken it over.

        The metric per validation item goes along: the others do not see this machine's run folder.
        """
        for attempt in (1, 2):
            try:
                if evaluation.items is not None:
                    self.annotate_trial(number, items=pack_items(evaluation.items))
                return super().close_trial(number, evaluation) or not is_void(self.trial(number))
            except optuna.exceptions.StorageInternalError:  # the server went away just then: it may have it, or not
                if attempt == 2:
                    raise
        raise AssertionError

    def is_claimed(self, key: str) -> bool:
        """Whether a claim stands on a plan."""
        return key in _standing(self.trials())

    def owns(self, trial: FrozenTrial) -> bool:
        """Whether a trial is this driver's, from before it was killed."""
        return trial.user_attrs.get("driver") == self.driver

    def new_trials(self) -> list[FrozenTrial]:
        """Return what other drivers have written since it was asked last; at first, all. Give a sign of life."""
        self.beat()
        self._bury()
        first, self._told = not self._told, True
        changed = [trial for trial in self.trials() if self._states.get(trial.number) != trial.state]
        self._states.update((trial.number, trial.state) for trial in changed)
        return changed if first else [trial for trial in changed if not self.owns(trial) or is_void(trial)]

    def others_running(self) -> bool:
        """Whether another driver is evaluating something, or seemed to a minute ago."""
        standing = _standing(self.trials()).values()
        return any(trial.state == TrialState.RUNNING and not self.owns(trial) for trial in standing)

    def beat(self) -> None:
        """Give a sign of life, if it is time."""
        if time.monotonic() - self._beaten >= BEAT_S:
            self._beats, self._beaten = self._beats + 1, time.monotonic()
            # counted anew each time it is started: what matters is that it changes
            self.storage.set_study_user_attr(self.study_id, f"driver {self.driver}", f"{time.time_ns()} {self._beats}")

    def _bury(self) -> None:
        """End the running trials of drivers that are dead."""
        now = time.monotonic()
        if now - self._looked > DEAF_S:
            self._signs.clear()
        self._looked = now
        for name, sign in self.storage.get_study_user_attrs(self.study_id).items():
            if name.startswith("driver ") and self._signs.get(name, (None,))[0] != sign:
                self._signs[name] = (sign, now)
        dead = {name for name, (_, since) in self._signs.items() if now - since > DEAD_S}
        for trial in self.trials():
            if trial.state == TrialState.RUNNING and f"driver {trial.user_attrs.get('driver')}" in dead:
                self.annotate_trial(trial.number, abandoned=True)
                self.end_trial(trial.number, TrialState.FAIL)

    def _over_budget(
        self, number: int, key: str, standing: Mapping[str, FrozenTrial], trials: Iterable[FrozenTrial]
    ) -> bool:
        """Whether the budget was spent by claims before this one, those left by the dead among them."""
        if self.budget is None:
            return False
        before = {other for other, trial in standing.items() if trial.number < number and not _is_reused(trial)}
        left = {trial.user_attrs["claim"] for trial in trials if is_abandoned(trial)} - set(standing)
        return len((before | left) - {key}) >= self.budget


def pack_items(per_item: NDArray[np.float64]) -> str:
    """Return figures as text for a database: little-endian floats of 32 bits, compressed."""
    return base64.b64encode(zlib.compress(per_item.astype("<f4").tobytes())).decode()


def unpack_items(text: str) -> NDArray[np.float64]:
    """Return what `pack_items` packed, to 7 digits."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<f4").astype(np.float64)


def _standing(trials: Iterable[FrozenTrial]) -> dict[str, FrozenTrial]:
    """Return the claim that stands on each plan: of those not void, the one with the lowest number."""
    found: dict[str, FrozenTrial] = {}
    for trial in trials:
        if "claim" in trial.user_attrs and not is_void(trial):
            found.setdefault(trial.user_attrs["claim"], trial)
    return found


def _is_reused(trial: FrozenTrial) -> bool:
    evaluation = evaluation_of(trial)
    return evaluation is not None and bool(evaluation.reused_from)
