"""The study's storage: Optuna's journal on one file, made to survive being killed.

Optuna's own file locks are files that a killed process leaves behind, and a line torn by a kill makes every later load
raise once something was appended to it. Here the lock is the kernel's (`flock`: gone with its process), and whoever
gets it first cuts an incomplete last line.
"""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nasbench.errors import RunError

__all__ = ["FileLock", "cut_torn_line", "open_journal", "quiet"]


class FileLock:
    """An advisory kernel lock on a file, released when its process dies. A context manager.

    Args:
        path: The lock file; created where missing, never removed.
        shared: Many may hold it shared, one alone exclusively.
    """

    def __init__(self, path: str | Path, *, shared: bool = False) -> None:
        self.path, self.shared = Path(path), shared
        self._descriptor: int | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; False where it is held elsewhere and `wait` is False."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        mode = fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, mode if wait else mode | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back; nothing where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class _JournalLock:
    """The lock that Optuna's journal takes for each append (the methods of its `BaseJournalFileLock`)."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._lock = FileLock(journal.with_name(journal.name + ".lock"))

    def acquire(self) -> bool:
        self._lock.acquire()
        cut_torn_line(self._journal)
        return True

    def release(self) -> None:
        self._lock.release()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's notices of studies opened and of experimental samplers."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def cut_torn_line(path: Path) -> None:
    """Cut what follows the last newline of a file: the trace of a write that was killed. Hold its lock."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:  # from the end, block by block: only the torn line is read
            start = max(0, keep - 4096)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep != end:
            file.truncate(keep)


def open_journal(path: str | Path) -> JournalStorage:
    """Open (or create) the journal of a run.

    Args:
        path: `journal.log` of the run folder; made absolute, so that a lock can never point elsewhere.

    Raises:
        RunError: If the file cannot be written, or is no journal.
    """
    path = Path(path).resolve()
    try:
        with _lock_of(path):
            cut_torn_line(path)
        lock: Any = _JournalLock(path)  # Optuna does not export the base class its annotation names
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except OSError as error:
        raise RunError(f"cannot use the journal {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is no Optuna journal, or is damaged: {error}") from None


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_name(path.name + ".lock"))
