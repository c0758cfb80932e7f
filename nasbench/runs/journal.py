"""The journal of a run: its Optuna studies in a file or in a shared database.

Anybody can have written a journal, so every record that is read is validated. A finished trial never changes, so it is
validated only once. A record that no search can have written is left out, and `RunJournal.skipped` names it.

The search of a run opens its journal for writing. Everybody else reads the file in the run folder. If the studies of a
run are in a database, this file is a copy of their records, so that reading needs no connection.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from nasbench.errors import NasbenchError, RunError
from nasbench.evidence.reference import Reference
from nasbench.runs.database import Database
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.folder import RunFolder
from nasbench.runs.ledger import Ledger, is_void, recorded_evaluation, retried_numbers
from nasbench.runs.mirror import Mirror
from nasbench.runs.schema import (
    CONTROLS,
    COST_CHECKS,
    EARLIER_NOISE,
    FINALISTS,
    LATENCY,
    REFERENCE,
    SEARCH,
    RecordedControl,
    check_evaluation,
    read_attribute,
)
from nasbench.runs.shared_ledger import SharedLedger, unpack_items
from nasbench.runs.storage import open_journal, quiet, read_journal
from nasbench.text import clean

__all__ = ["RunJournal", "Skipped"]

_LONGEST_REASON = 300
"""Largest number of characters that are read of a reason. Anybody can have written the journal."""


@dataclass(frozen=True)
class Skipped:
    """A record that was left out because no search can have written it.

    Attributes:
        study: The study that contains it.
        number: Number of its trial in that study.
        reason: What is wrong with the record.
    """

    study: str
    number: int
    reason: str

    def __str__(self) -> str:
        where = "" if self.study == SEARCH else f" of the {self.study}"
        return f"trial {self.number}{where}: {self.reason}"


class RunJournal:
    """The Optuna studies of a run: the search, the finalists' further seeds, and their equal-cost controls.

    Args:
        folder: The run's folder.
        directions: The objectives, each to "maximize" or "minimize".
        identity: The identity of the run, which distinguishes the runs in a database.
        writing: Whether to open the studies for writing, as the search of the run does.
        database: The database to which a shared search writes. None for a search that writes to the run folder, and for
            every reader. A reader uses the copy in the run folder, and connects to no database.
    """

    def __init__(
        self,
        folder: RunFolder,
        directions: Mapping[str, str],
        identity: Mapping[str, Any],
        *,
        writing: bool = False,
        database: Database | None = None,
    ) -> None:
        self.folder, self.directions, self._identity = folder, dict(directions), identity
        self._writing, self._database = writing, database
        self._studies: dict[str, optuna.Study] = {}
        # the validated evaluations of finished trials; None for a trial without an evaluation
        self._checked: dict[tuple[str, int], Evaluation | None] = {}
        self._skipped: dict[tuple[str, int], Skipped] = {}
        self._fetched: set[tuple[str, int]] = set()  # trials whose items are in the run folder

    @cached_property
    def storage(self) -> BaseStorage:
        """The Optuna storage. It is opened when it is first used."""
        if not self._writing:
            return read_journal(self.folder.journal)
        return open_journal(self.folder.journal) if self._database is None else self._database

    @cached_property
    def _mirror(self) -> Mirror:
        names = {name: self.study_name(name) for name in (SEARCH, FINALISTS, CONTROLS)}
        return Mirror(self.folder, self.storage, names)

    @property
    def is_shared(self) -> bool:
        """Whether other machines can write to the same studies. False for a reader."""
        return self._database is not None

    @property
    def skipped(self) -> list[Skipped]:
        """The records that were left out of the evaluations read so far, sorted by study and number."""
        return [self._skipped[key] for key in sorted(self._skipped)]

    def study_name(self, name: str) -> str:
        """Return the name that a study of this run has in the storage."""
        if not self.is_shared:
            return name
        # A database contains the studies of many runs. All drivers of a search compute the same study name from the
        # identity of their run.
        identity = json.dumps(self._identity, sort_keys=True, default=list)
        return f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    def study(self, name: str = SEARCH) -> optuna.Study:
        """Open one of the studies for writing. Create it if it does not exist."""
        if name not in self._studies:
            with quiet():
                known, storage = self.study_name(name), self.storage
                # With `load_if_exists`, Optuna writes a line each time. So it is used only if the study is not there,
                # in case another process creates it at the same moment.
                study = (
                    optuna.load_study(study_name=known, storage=storage)
                    if self._study_id(name) is not None
                    else optuna.create_study(
                        study_name=known,
                        storage=storage,
                        directions=[StudyDirection[d.upper()] for d in self.directions.values()],
                        load_if_exists=True,
                    )
                )
                # Optuna's dashboard shows these names. They are set only in an empty study, because an older run must
                # not change.
                if study.metric_names is None and not study.get_trials(deepcopy=False):
                    study.set_metric_names(list(self.directions))
                self._studies[name] = study
        return self._studies[name]

    def ledger(self, name: str = SEARCH) -> Ledger:
        """Return the ledger of a study, which records claims and evaluations. Create a study that does not exist."""
        study = self.study(name).study_name
        if not self.is_shared:
            return Ledger(self.storage, study, self.directions)
        return SharedLedger(self.storage, study, self.directions, self.folder.driver)

    # -- evaluations -------------------------------------------------------------------------------------------

    def evaluations(self, *names: str) -> list[Evaluation]:
        """Return every evaluation of the named studies, in order of trials.

        By default these are the studies of the search and of the finalists' further seeds. A record that no search can
        have written is left out (`skipped`).

        Raises:
            RunError: If the storage cannot be read.
        """
        with self._undamaged():
            return [
                evaluation
                for name in names or (SEARCH, FINALISTS)
                for trial in self._trials(name)
                if (evaluation := self.evaluation(name, trial)) is not None
            ]

    def further_trainings(self) -> list[tuple[Evaluation, str]]:
        """Return every evaluation of a further seed with the reason for this training, in the order of their starts.

        The reason is "" if none was recorded. A search that trains all plans with the same seeds records none.

        Raises:
            RunError: If the storage cannot be read.
        """
        with self._undamaged():
            return [
                (evaluation, clean(str(trial.user_attrs.get("reason", "")), _LONGEST_REASON))
                for trial in self._trials(FINALISTS)
                if (evaluation := self.evaluation(FINALISTS, trial)) is not None
            ]

    def refresh_copy(self) -> None:
        """Copy everything that the run folder lacks from the database: records to journal.log, items to their files.

        Does nothing if the studies are in the run folder.

        Raises:
            RunError: If the database lacks finished trials that the run folder has.
        """
        if self.is_shared:
            records = self._mirror.read()
            for each in records:  # items first, so that every evaluation in the copy has its items
                self._save_items(each.name, each.trials)
            self._mirror.write(records)

    def fetch_items(self) -> None:
        """Copy the items (the metric of each validation item) of other machines from the database to the run folder."""
        for name in (SEARCH, FINALISTS, CONTROLS) if self.is_shared else ():
            self._save_items(name, self._trials(name))

    def _save_items(self, name: str, trials: Iterable[FrozenTrial]) -> None:
        for trial in trials:
            packed = trial.user_attrs.get("items")  # None for a metric without values by item
            if packed is None or (name, trial.number) in self._fetched:
                continue
            if (evaluation := self.evaluation(name, trial)) is None:  # not finished
                continue
            if not self.folder.items_file(evaluation.plan_hash, evaluation.seed).is_file():
                self.folder.save_items(evaluation.plan_hash, evaluation.seed, unpack_items(packed))
            self._fetched.add((name, trial.number))

    def _trials(self, name: str) -> list[FrozenTrial]:
        study = self._study_id(name)
        trials = [] if study is None else self.storage.get_all_trials(study, deepcopy=False)
        # a failed trial that was tried again stays in the study, but only its later attempt counts
        retried = retried_numbers(trials, ended=True)
        first: dict[str, int] = {}
        return [trial for trial in trials if trial.number not in retried and not self._repeats(name, trial, first)]

    def _repeats(self, name: str, trial: FrozenTrial, first: dict[str, int]) -> bool:
        """Whether a trial evaluates the claim of an earlier one again, as in a journal whose lines were repeated.

        A damaged record does not count as the earlier one, because a resumed search evaluates its plan again.
        """
        if "claim" not in trial.user_attrs or is_void(trial) or not trial.state.is_finished():
            return False
        if self.evaluation(name, trial) is None:
            return False
        original = first.setdefault(str(trial.user_attrs["claim"]), trial.number)
        if original != trial.number:
            self._skipped[name, trial.number] = Skipped(name, trial.number, f"it repeats trial {original}")
        return original != trial.number

    def evaluation(self, name: str, trial: FrozenTrial) -> Evaluation | None:
        """Return the evaluation of a trial of the named study. None if it has none or is damaged (`skipped`)."""
        key = (name, trial.number)
        if key in self._checked:
            return self._checked[key]
        try:
            evaluation = self._validated(trial)
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
            # One bad record must not make the others unreadable.
            evaluation, reason = None, clean(str(error) or type(error).__name__, _LONGEST_REASON)
            self._skipped[key] = Skipped(name, trial.number, reason)
        if trial.state.is_finished():  # a running trial can still change, because another driver can take it over
            self._checked[key] = evaluation
        return evaluation

    def _validated(self, trial: FrozenTrial) -> Evaluation | None:
        """Return the evaluation of a trial, or None if the trial has none.

        Raises:
            ValueError: If no search can have written this record. Damaged data can raise other errors too.
        """
        evaluation = recorded_evaluation(trial)
        if evaluation is None:
            return None
        check_evaluation(evaluation, self.directions)
        claimed = trial.user_attrs.get("plan", evaluation.plan)
        if claimed != evaluation.plan:
            raise ValueError("its evaluation is of another plan than the one that the trial claims")
        return evaluation

    def _study_id(self, name: str) -> int | None:
        # not `self.study`, which creates a missing study: reading a run must not change it
        try:
            return self.storage.get_study_id_from_name(self.study_name(name))
        except KeyError:
            return None

    # -- what a study contains beside its trials ------------------------------------------------------------------

    @property
    def latency(self) -> dict[str, dict[str, Any]]:
        """Measured latency by plan hash. The values are the latency columns of the trials table."""
        return self._attribute(SEARCH, LATENCY)

    @property
    def cost_checks(self) -> dict[str, str]:
        """How the costs of each finalist's whole model differ from the sum of the costs of its parts, by plan hash.

        The text is "" if they do not differ.
        """
        return self._attribute(SEARCH, COST_CHECKS)

    @property
    def controls(self) -> dict[str, RecordedControl]:
        """The equal-cost control of each finalist, by the finalist's plan hash."""
        return self._attribute(CONTROLS, CONTROLS)

    @property
    def reference(self) -> Reference | None:
        """The reference point of the hypervolume. None until the bare backbone has been evaluated."""
        return self._attribute(SEARCH, REFERENCE)

    @property
    def earlier_noise(self) -> dict[str, dict[str, Any]]:
        """The noise of earlier runs of the same task, by run name: the fields of `nasbench.evidence.noise.Noise`."""
        return self._attribute(SEARCH, EARLIER_NOISE)

    def record_earlier_noise(self, run: str, noise: Mapping[str, Any]) -> None:
        """Store the noise of an earlier run, unless it is stored already. Readers then do not need the earlier run."""
        if run not in self.earlier_noise:
            self.study().set_user_attr(EARLIER_NOISE, {**self.earlier_noise, run: dict(noise)})

    def record_latency(self, columns: Mapping[str, Mapping[str, Any]]) -> None:
        """Add measured latency, by plan hash, to the recorded latency."""
        self.study().set_user_attr(LATENCY, {**self.latency, **columns})

    def record_cost_checks(self, checks: Mapping[str, str]) -> None:
        """Add checks of costs, by plan hash, to the recorded checks."""
        self.study().set_user_attr(COST_CHECKS, {**self.cost_checks, **checks})

    def record_controls(self, controls: Mapping[str, RecordedControl]) -> None:
        """Add controls, by the finalist's plan hash, to the recorded controls."""
        every = {**self.controls, **controls}
        self.study(CONTROLS).set_user_attr(CONTROLS, {key: control.to_dict() for key, control in every.items()})

    def record_reference(self, reference: Reference) -> None:
        """Store the reference point of the hypervolume, unless one is stored already."""
        study = self.study()
        # not replaced, because hypervolumes are comparable only if they have the same reference point
        if REFERENCE not in study.user_attrs:
            study.set_user_attr(REFERENCE, reference.to_dict())

    def _attribute(self, name: str, key: str) -> Any:
        with self._undamaged():
            study = self._study_id(name)
            return read_attribute(key, None if study is None else self.storage.get_study_user_attrs(study).get(key))

    @contextmanager
    def _undamaged(self) -> Iterator[None]:
        """Turn the errors that a damaged journal can cause into a `RunError`."""
        try:
            yield
        except NasbenchError:  # before ValueError, because some of these errors are also a ValueError
            raise
        except OSError as error:
            if self._writing:  # the search reports this error, and says how to continue
                raise
            raise RunError(f"cannot read the journal of {self.folder.path}: {error.strerror}") from None
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, AssertionError) as error:
            raise RunError(
                f"the journal of {self.folder.path} is damaged: {type(error).__name__}: {str(error)[:200]}"
            ) from None
