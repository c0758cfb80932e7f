"""Storage of a study: Optuna's journal in one file, which stays valid if a process is killed.

Only the search of a run writes (`open_journal`, `open_database`). All others read (`read_journal`): they open the file
for reading only, and create and change nothing. While a reader reads, it holds a shared lock if there is a lock file.

Optuna's own storage has two faults. Its lock is a file, which a killed process does not remove. And a process that is
killed while it writes leaves an incomplete line: once the next line is appended to it, Optuna can no longer load the
file. So this file uses a lock of the kernel (`flock`), which the kernel releases when the process ends. A process that
holds the lock removes an incomplete last line before it writes.
"""

from __future__ import annotations

import errno
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from nasbench.errors import RunError
from nasbench.files import FileLock, append, cut_torn_line, read_from, read_locked

__all__ = ["Journal", "JournalFile", "JournalReader", "open_journal", "quiet", "read_journal"]


_MOST_BYTES = 4_000_000_000
"""Largest journal that is read, in bytes. A trial takes a few kilobytes."""

_CREATE_STUDY, _CREATE_TRIAL = 0, 4
"""Optuna's codes of the operations that create a study and a trial."""


class JournalReader(BaseJournalBackend):
    """Optuna's journal in one file, one line for each operation, opened for reading only.

    Args:
        path: The file, as an absolute path. A file that does not exist is read as an empty journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Number of lines and bytes that were read so far. The next read starts after them.
        self._number, self._offset = 0, 0
        self._created = {_CREATE_STUDY: 0, _CREATE_TRIAL: 0}

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse to write.

        Raises:
            RunError: Always.
        """
        raise RunError(f"{self._path} was opened for reading, so nothing is written to it")

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from number `log_number_from` on. An incomplete last line is not an operation yet.

        Raises:
            RunError: If a line is damaged, or belongs to a study or trial that no earlier line creates.
            OSError: If the file cannot be read.
        """
        if log_number_from < self._number:  # lines that were read already are requested again
            self._number, self._offset = 0, 0
            self._created = dict.fromkeys(self._created, 0)
        for line in self._new_lines():
            self._number, self._offset = self._number + 1, self._offset + len(line)
            log = self._parsed(line)
            if self._number > log_number_from:
                yield log

    def _new_lines(self) -> list[bytes]:
        """Return the complete lines that were appended since the last call."""
        try:
            data = self._read()
        except FileNotFoundError:
            return []
        # an incomplete last line is left out: it is still being written, or the process that wrote it was killed
        return [line + b"\n" for line in data.split(b"\n")[:-1]]

    def _read(self) -> bytes:
        # with the lock, because a writer removes an incomplete line and then appends another, and between the two the
        # file must not be read
        with read_locked(self._path.with_name(self._path.name + ".lock")):
            return read_from(self._path, self._offset, _MOST_BYTES)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        """Return the operation in a line, which is the last line that was read.

        Optuna ignores an operation on a trial that does not exist. So if lines were missing or in another order,
        evaluations would be lost or assigned to other trials. This check raises an error instead.
        """
        try:
            log = json.loads(line)
            kind, study, trial = int(log["op_code"]), log.get("study_id", -1), log.get("trial_id", -1)
            known = study < self._created[_CREATE_STUDY] and trial < self._created[_CREATE_TRIAL]
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise RunError(f"line {self._number} is damaged: {type(error).__name__} {str(error)[:100]}") from None
        if not known:
            raise RunError(
                f"line {self._number} belongs to a study or trial that no earlier line creates; lines are missing or "
                "in another order"
            )
        if kind in self._created:
            self._created[kind] += 1
        return log


class JournalFile(JournalReader):
    """Optuna's journal in one file. Lines are appended while a lock of the kernel is held, and are synced to the disk.

    Args:
        path: The file. The path must be absolute, so that the lock stays the same file if the working directory
            changes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._pending: list[bytes] | None = None
        path.touch()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append all operations. If this fails, none of them is appended."""
        lines = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        if self._pending is not None:
            self._pending += lines
            return
        with self._lock:
            self._write(lines)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from number `log_number_from` on, and those that are not written yet."""
        yield from super().read_logs(log_number_from)
        # Optuna reads operations back as soon as it has appended them, even if `atomically` has not written them yet.
        unwritten = self._pending or []
        for line in unwritten[max(0, log_number_from - self._number) :]:
            yield json.loads(line)

    def _read(self) -> bytes:
        return read_from(self._path, self._offset, _MOST_BYTES)  # this process can hold the lock, in `atomically`

    @contextmanager
    def atomically(self, *, durable: bool = True) -> Iterator[None]:
        """Return a context whose operations are all written together, with no operation of another process in between.

        If an error is raised within the context, nothing is written.

        Args:
            durable: Whether to wait until the lines are on the disk, so that they survive a power cut. This also brings
                the lines of earlier writes to the disk that did not wait.
        """
        if self._pending is not None:  # a nested context: only the outermost context writes
            yield
            return
        with self._lock:
            self._pending = []
            try:
                yield
                lines = self._pending
            finally:
                self._pending = None
            self._write(lines, durable)

    def _write(self, lines: list[bytes], durable: bool = True) -> None:
        cut_torn_line(self._path)
        append(self._path, b"".join(lines), durable=durable)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's messages about created studies and experimental samplers."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


class Journal(JournalStorage):
    """Optuna's storage in a journal file.

    Args:
        file: The backend that writes the file.

    Attributes:
        file: The backend that writes the file.
    """

    def __init__(self, file: JournalFile) -> None:
        self.file = file
        super().__init__(file)


def open_journal(path: str | Path) -> Journal:
    """Open the journal of a run for writing. Create it if it does not exist.

    Args:
        path: `journal.log` of the run folder. A relative path is resolved here, see `JournalFile`.

    Raises:
        RunError: If the file cannot be written, or is not a journal.
    """
    path = Path(path).resolve()
    with _readable(path):
        with _lock_of(path):
            cut_torn_line(path)
        return Journal(JournalFile(path))


def read_journal(path: str | Path) -> JournalStorage:
    """Open the journal of a run for reading. Nothing is written or created, even if there is no journal.

    Args:
        path: `journal.log` of the run folder. It must not be a link.

    Raises:
        RunError: If the file cannot be read, or is not a journal.
    """
    path = Path(path)
    path = path.parent.resolve() / path.name  # only the folder is resolved: a link must not be followed
    with _readable(path):
        return JournalStorage(JournalReader(path))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors that occur if a journal cannot be opened or is damaged into a `RunError`."""
    try:
        yield
    except RunError as error:
        raise RunError(f"{path} is not an Optuna journal, or is damaged: {error}") from None
    except OSError as error:
        what = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise RunError(f"cannot use the journal {path}: {what}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, OverflowError) as error:
        # Opening reads every line. Optuna does not validate the lines, so a damaged line can raise any error.
        raise RunError(
            f"{path} is not an Optuna journal, or is damaged: {type(error).__name__} {str(error)[:200]}"
        ) from None


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_name(path.name + ".lock"))
