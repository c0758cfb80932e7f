"""The copy of a shared study in the run folder, so that reading a run needs no connection.

The driver copies the records of the database to journal.log after each trial. The copy is an ordinary Optuna journal
with the study names of a local run and the trial numbers of the database. Nothing is ever copied from the run folder to
the database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

from nasbench.errors import RunError
from nasbench.runs.database import TOKEN
from nasbench.runs.folder import RunFolder
from nasbench.runs.shared_ledger import HEARTBEAT
from nasbench.runs.storage import open_journal, quiet

__all__ = ["Mirror", "Records"]

_LEFT_OUT = ("items", TOKEN)
"""Attributes of trials that are not copied: the metrics of single items, which have files of their own, and the token
of the call that created the trial."""


@dataclass(frozen=True)
class Records:
    """The records of one study in a database.

    Attributes:
        name: Name of the study in a run folder.
        study: The attributes and directions of the study.
        trials: The trials of the study, sorted by number. They are the storage's own objects, so they must not be
            modified.
    """

    name: str
    study: FrozenStudy
    trials: Sequence[FrozenTrial]


class Mirror:
    """Keeps the journal of a run folder as a copy of the studies in a database.

    Args:
        folder: The run's folder.
        source: The storage that holds the studies.
        names: For each study, its name in the journal as the key and its name in the database as the value.

    Raises:
        RunError: If the journal cannot be written.
    """

    def __init__(self, folder: RunFolder, source: BaseStorage, names: Mapping[str, str]) -> None:
        self._folder, self._source, self._names = folder, source, dict(names)
        self._copy = open_journal(folder.journal)

    def read(self) -> list[Records]:
        """Return the present records of each study that the database contains, in the order of `names`."""
        known = {study.study_name: study for study in self._source.get_all_studies()}
        return [
            Records(name, known[there], self._source.get_all_trials(known[there]._study_id, deepcopy=False))
            for name, there in self._names.items()
            if there in known
        ]

    def write(self, records: Iterable[Records]) -> None:
        """Write the records that the journal lacks.

        `read` and `write` are separate. `read` can wait for the database. `write` holds the lock of the journal, for
        which every reader of the journal waits.

        Raises:
            RunError: If the journal contains finished trials that are not among the records.
        """
        # All studies are written at once, so that a killed process leaves no incomplete trial.
        with self._copy.file.atomically(durable=False):
            for each in records:
                self._copy_study(each.name, each.study, each.trials)

    def _copy_study(self, name: str, study: FrozenStudy, trials: Sequence[FrozenTrial]) -> None:
        here, target = self._copy, self._study(name, study.directions)
        own, own_system = here.get_study_user_attrs(target), here.get_study_system_attrs(target)
        for key, value in study.user_attrs.items():
            if not key.startswith(HEARTBEAT) and own.get(key) != value:
                here.set_study_user_attr(target, key, value)
        for key, value in study.system_attrs.items():
            if own_system.get(key) != value:
                here.set_study_system_attr(target, key, value)
        copied = here.get_all_trials(target, deepcopy=False)
        self._check_same(trials, copied)
        for trial, copied_trial in zip(trials, copied, strict=False):
            if not copied_trial.state.is_finished():
                self._update(trial, copied_trial)
        for trial in trials[len(copied) :]:
            here.create_new_trial(target, _without(trial, _LEFT_OUT))

    def _study(self, name: str, directions: Sequence[StudyDirection]) -> int:
        try:
            return self._copy.get_study_id_from_name(name)
        except KeyError:
            with quiet():
                return self._copy.create_new_study(directions, name)

    def _update(self, trial: FrozenTrial, copied: FrozenTrial) -> None:
        """Write the changes of a trial that was still running when it was last copied."""
        number = copied._trial_id
        for key, value in trial.user_attrs.items():
            if key not in _LEFT_OUT and copied.user_attrs.get(key) != value:
                self._copy.set_trial_user_attr(number, key, value)
        if trial.state.is_finished():
            self._copy.set_trial_state_values(number, trial.state, trial.values)

    def _check_same(self, trials: Sequence[FrozenTrial], copied: Sequence[FrozenTrial]) -> None:
        differing = any(
            mine.user_attrs.get("claim") != theirs.user_attrs.get("claim")
            or (mine.state.is_finished() and mine.state != theirs.state)
            for mine, theirs in zip(copied, trials, strict=False)
        )
        if differing or len(copied) > len(trials):
            raise RunError(
                f"the trials in the database are not those in {self._folder.journal}, so the database was replaced or "
                f"reset; choose another --out, and add --reuse {self._folder.path} to import the evaluations of this "
                "folder"
            )


def _without(trial: FrozenTrial, left_out: Collection[str]) -> FrozenTrial:
    less = copy(trial)
    less.user_attrs = {key: value for key, value in trial.user_attrs.items() if key not in left_out}
    less.system_attrs = {key: value for key, value in trial.system_attrs.items() if key not in left_out}
    return less
