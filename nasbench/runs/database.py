"""A study in a database that several machines share. Every call waits while the database does not answer.

If the server restarts, a connection is cut or a statement exceeds its time limit, the call is repeated on a new
connection for up to `OUTAGE_S`. If a connection breaks while a transaction is being committed, the client cannot know
whether the server has committed it. A repeated call must not write the same thing twice:

- A new trial has a token, a random text. A repeated transaction first looks for a trial with its token. At that time it
  holds the lock of the study's row, so the first transaction has either ended or can no longer commit.
- The end of a trial is written once. If a repeated call finds that the trial has ended with the same state and values,
  the first attempt of this call wrote them.
- An attribute is set to a value, so writing it again changes nothing.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from nasbench.errors import InputError, RunError
from nasbench.runs.database_url import DatabaseUrl
from nasbench.text import mask_passwords

__all__ = ["TOKEN", "Database", "check_database_url", "database_fault", "open_database"]

OUTAGE_S = 300.0
"""Seconds for which a call waits for a database that does not answer. The server may be restarting."""

OPENING_S = 5.0
"""Seconds for which the first connection waits. If it fails, a mistyped address is more likely than a restart."""

_LONGEST_PAUSE_S = 2.0
"""Longest pause between two attempts, in seconds."""

TOKEN = "nasbench:token"
"""System attribute of a trial that distinguishes the call which created it."""

_POSTGRESQL = {
    "connect_timeout": 10,
    # These two parameters together detect a lost network connection within a minute. The defaults of TCP need hours.
    "keepalives_idle": 30,
    "tcp_user_timeout": 60_000,
    # Without these limits, a search process that hangs within a transaction would block all others forever.
    "options": "-c statement_timeout=60s -c idle_in_transaction_session_timeout=60s",
}
"""Connection parameters of libpq, with a limit for every wait. Parameters in the URL take precedence."""

_PERMANENT = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")
"""Parts of the messages of connection errors for which waiting does not help: a wrong password, user or database."""

T = TypeVar("T")

_FORM = "postgresql://user@host:port/database"


def check_database_url(url: str) -> None:
    """Check the form of the URL of a shared study, without connecting to it.

    Raises:
        InputError: If it is not a URL of PostgreSQL, or names no database. The message does not contain the password.
    """
    url = DatabaseUrl(url)
    if re.search(r"[?&]sslpassword=", url):  # a URL is written to files, and only its `password` is left out
        raise InputError(
            "the URL of a storage cannot contain sslpassword, the passphrase of a client key; put it into a connection "
            "service file (PGSERVICEFILE)"
        )
    scheme, separator, _ = url.partition("://")
    if scheme.partition("+")[0] != "postgresql" or not separator:
        hint = (
            "write postgresql:// instead of postgres://"
            if scheme == "postgres" and separator
            else "PostgreSQL is the only database; leave it out to store the study in the run folder"
        )
        # A text without a scheme is not a URL, so its password is found only after a scheme is put before the text.
        shown = mask_passwords(url) if separator else DatabaseUrl(f"x://{mask_passwords(url)}").removeprefix("x://")
        raise InputError(f"storage {shown!r} is not of the form {_FORM}; {hint}")
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the port is not a number, or an address in brackets is not complete
        raise InputError(
            f"storage {url!r} is not of the form {_FORM}: the port must be a whole number, and special characters of a "
            "password must be written as %XX"
        ) from None
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        raise InputError(f"storage {url!r}: the port must lie between 1 and 65535")
    if not parsed.database:
        raise InputError(f"storage {url!r} names no database: write {_FORM}")


def open_database(url: str, say: Callable[[str], None] | None = None) -> Database:
    """Open (or create) Optuna's tables in a database that several machines share.

    Args:
        url: postgresql://user@host/database.
        say: Called with a message when the database does not answer.

    Raises:
        InputError: If the URL has another form, or if its database driver is not installed.
        RunError: If the database cannot be reached.
    """
    check_database_url(url)
    url = DatabaseUrl(url)
    try:
        # Creating the tables fails if another search process creates them at the same moment. So a failed call is
        # repeated.
        storage = _patiently(lambda: _Transactions(url), OPENING_S, _is_passing)
        return Database(optuna.storages.get_storage(storage), say)
    except ImportError as error:
        kind = url.partition("://")[0]
        raise InputError(f"{kind}:// needs {error.name or 'a driver'}: pip install nasbench[postgres]") from None
    except _faults() as error:
        raise RunError(f"cannot use the database {url}: {database_fault(error)}") from None


def database_fault(error: Exception) -> str:
    """Return the first line of the database's own error message, without the error in which Optuna wraps it."""
    cause = error.__cause__ or error
    return mask_passwords((str(cause).splitlines() or [type(cause).__name__])[0])


class Database(BaseStorage):
    """A storage in a database. While the database does not answer, every call waits for up to `OUTAGE_S`.

    Args:
        storage: Optuna's storage in the database.
        say: Called with a message when the database does not answer.
    """

    def __init__(self, storage: BaseStorage, say: Callable[[str], None] | None = None) -> None:
        self._storage, self._say = storage, say

    def _wait(self, method: str, *arguments: Any, **named: Any) -> Any:
        return _patiently(lambda: getattr(self._storage, method)(*arguments, **named), OUTAGE_S, _is_outage, self._say)

    # -- studies -----------------------------------------------------------------------------------------------

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Create a study. If it exists, Optuna raises `DuplicatedStudyError`, even if an earlier attempt created it."""
        return self._wait("create_new_study", directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """Delete a study."""
        self._wait("delete_study", study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute of a study."""
        self._wait("set_study_user_attr", study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a study."""
        self._wait("set_study_system_attr", study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the id of a study."""
        return self._wait("get_study_id_from_name", study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return the name of a study."""
        return self._wait("get_study_name_from_id", study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return the directions of a study."""
        return self._wait("get_study_directions", study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes of a study."""
        return self._wait("get_study_user_attrs", study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the system attributes of a study."""
        return self._wait("get_study_system_attrs", study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return all studies of the database."""
        return self._wait("get_all_studies")

    # -- trials ------------------------------------------------------------------------------------------------

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial exactly once, and return its id."""
        if template_trial is not None:
            template_trial = copy(template_trial)
            template_trial.system_attrs = {**template_trial.system_attrs, TOKEN: uuid.uuid4().hex}
        return self._wait("create_new_trial", study_id, template_trial)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Set a parameter of a trial."""
        self._wait("set_trial_param", trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set state and values of a trial. If the call is repeated, what its first attempt wrote is not an error."""
        attempts = 0

        def write() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                return self._storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if attempts == 1:
                    raise
                there = self._storage.get_trial(trial_id)
                if there.state == state and there.values == (None if values is None else list(values)):
                    return True
                raise

        return _patiently(write, OUTAGE_S, _is_outage, self._say)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Set an intermediate value of a trial."""
        self._wait("set_trial_intermediate_value", trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial."""
        self._wait("set_trial_user_attr", trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a trial."""
        self._wait("set_trial_system_attr", trial_id, key, value)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Return the id of a trial."""
        return self._wait("get_trial_id_from_study_id_trial_number", study_id, trial_number)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial."""
        return self._wait("get_trial", trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study by number."""
        return self._wait("get_all_trials", study_id, deepcopy, states)

    def remove_session(self) -> None:
        """Close the connection, if one is open."""
        self._storage.remove_session()


class _Transactions(RDBStorage):
    """Optuna's storage in a database, one transaction for each call."""

    def __init__(self, url: DatabaseUrl) -> None:
        from sqlalchemy.pool import NullPool

        self._tried: set[str] = set()  # tokens of the trials for which a transaction was begun
        # With NullPool, no connection stays open during an evaluation, which can take hours.
        super().__init__(str(url), engine_kwargs={"poolclass": NullPool, "connect_args": _connect_args(url)})

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        # Optuna calls this method within the transaction, while the study's row is locked. Optuna can repeat the
        # transaction by itself, so only this method sees every attempt.
        token = None if template_trial is None else template_trial.system_attrs.get(TOKEN)
        if token in self._tried and (written := _trial_with(token, study_id, session)) is not None:
            return written
        if token is not None:
            self._tried.add(token)
        return super()._get_prepared_new_trial(study_id, template_trial, session)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        trial = super()._create_new_trial(study_id, template_trial)
        self._tried.discard(trial.system_attrs.get(TOKEN, ""))
        return trial


def _trial_with(token: str, study_id: int, session: Any) -> Any:
    """Return the trial that an earlier attempt has written with this token, or None."""
    from optuna.storages._rdb import models

    attribute = models.TrialSystemAttributeModel
    return (
        session.query(models.TrialModel)
        .join(attribute, attribute.trial_id == models.TrialModel.trial_id)
        .filter(
            models.TrialModel.study_id == study_id,
            attribute.key == TOKEN,
            attribute.value_json == json.dumps(token),
        )
        .one_or_none()
    )


def _connect_args(url: DatabaseUrl) -> dict[str, Any]:
    from sqlalchemy.engine import make_url

    asked = make_url(url)
    password = {} if url.password is None else {"password": url.password}
    return {key: value for key, value in _POSTGRESQL.items() if key not in asked.query} | password


# -- waiting -------------------------------------------------------------------------------------------------------


def _patiently(
    call: Callable[[], T],
    patience_s: float,
    may_pass: Callable[[Exception], bool],
    say: Callable[[str], None] | None = None,
) -> T:
    """Call a function, and repeat the call for up to `patience_s` after an error that may pass.

    Raises:
        StorageInternalError: If the error does not pass.
    """
    end: float | None = None
    pause = 0.05
    while True:
        try:
            with _without_warnings():
                return call()
        except _faults() as error:
            now = time.monotonic()
            if end is None:
                end = now + patience_s
            elif say is not None and pause >= _LONGEST_PAUSE_S:  # an outage of a few seconds is not worth a message
                say(f"the database does not answer ({database_fault(error)}); waiting for it, at most {OUTAGE_S:g} s")
                say = None
            if now >= end or not may_pass(error):
                if isinstance(error, StorageInternalError):
                    raise
                raise StorageInternalError(str(error)) from error
        time.sleep(min(pause, max(0.0, end - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _faults() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError

    return StorageInternalError, SQLAlchemyError


def _is_outage(error: Exception) -> bool:
    """Whether the error of a statement can pass by waiting: the connection broke, or a time limit was exceeded."""
    from sqlalchemy import exc

    for fault in _causes(error):
        # An earlier error broke the connection, and the transaction cannot continue without it.
        if isinstance(fault, exc.PendingRollbackError):
            return True
        # If a transaction was idle for longer than its limit, PostgreSQL reports an internal error.
        if isinstance(fault, (exc.OperationalError, exc.InterfaceError, exc.InternalError)):
            return not any(part in str(fault) for part in _PERMANENT)
        if isinstance(fault, exc.DBAPIError) and fault.connection_invalidated:
            return True
    return False


def _is_passing(error: Exception) -> bool:
    """Whether an error while the database is opened can pass by waiting.

    If two processes create the same table, one of them fails, and its next attempt succeeds.
    """
    from sqlalchemy import exc

    twice = (exc.IntegrityError, exc.ProgrammingError)
    return _is_outage(error) or any(isinstance(fault, twice) for fault in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    fault: BaseException | None = error
    while fault is not None:
        yield fault
        fault = fault.__cause__


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence Optuna's warning about a failed query. It would print the query, although the call is repeated."""
    logger = logging.getLogger("optuna.storages._rdb.storage")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
