"""Storage of a study: Optuna's journal in one file that stays valid if a process is killed.

Optuna's own lock is a file, and a killed process does not remove it. A process that is killed while it writes leaves
half a line. After the next line is appended to this half line, Optuna can no longer load the file. So the kernel's lock
(`flock`) is used here, which ends with its process. A process that has the lock removes an incomplete last line before
it writes.
"""

from __future__ import annotations

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
from nasbench.files import FileLock, append, cut_torn_line

__all__ = ["Journal", "JournalFile", "open_journal", "quiet"]


class JournalFile(BaseJournalBackend):
    """Optuna's journal in one file, one line per operation, appended under a kernel lock and synced to the disk.

    Args:
        path: The file. It must be absolute, so that a change of the working directory does not move its lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        # lines and bytes read so far: the next read starts here, not at the beginning
        self._number, self._offset = 0, 0
        self._pending: list[bytes] | None = None
        path.touch()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append all operations or, if this fails, none of them."""
        lines = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        if self._pending is not None:
            self._pending += lines
            return
        with self._lock:
            self._write(lines)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from number `log_number_from` on. An incomplete last line is not an operation yet."""
        if log_number_from < self._number:  # lines before the offset are requested again
            self._number, self._offset = 0, 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):  # another process is still writing it, or was killed while writing
                    break
                self._number, self._offset = self._number + 1, self._offset + len(line)
                if self._number > log_number_from:
                    yield json.loads(line)
        # Optuna reads its own operations back right after appending them, also operations that `atomically` has not
        # written yet
        unwritten = self._pending or []
        for line in unwritten[max(0, log_number_from - self._number) :]:
            yield json.loads(line)

    @contextmanager
    def atomically(self, *, durable: bool = True) -> Iterator[None]:
        """Write all operations of this context together, with no operation of another process in between.

        If the context raises, nothing is written.

        Args:
            durable: Whether to wait for the disk, so that the lines survive a power cut. A durable write also saves
                lines of earlier writes that did not wait.
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
        path: The file, absolute.

    Attributes:
        file: The backend that writes the file.
    """

    def __init__(self, path: Path) -> None:
        self.file = JournalFile(path)
        super().__init__(self.file)


def open_journal(path: str | Path) -> Journal:
    """Open (or create) the journal of a run.

    Args:
        path: `journal.log` of the run folder. A relative path is resolved here, see `JournalFile`.

    Raises:
        RunError: If the file cannot be written, or is not a journal.
    """
    path = Path(path).resolve()
    try:
        with _lock_of(path):
            cut_torn_line(path)
        return Journal(path)
    except OSError as error:
        raise RunError(f"cannot use the journal {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
        # Opening reads every line. Optuna does not validate the lines, so a damaged line can raise any error.
        raise RunError(
            f"{path} is not an Optuna journal, or is damaged: {type(error).__name__} {str(error)[:200]}"
        ) from None


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_name(path.name + ".lock"))
