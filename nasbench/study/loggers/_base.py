"""The base class of loggers, and the registry of them."""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from nasbench.errors import PluginError
from nasbench.library.expression import text_hash
from nasbench.library.registry import Registry

__all__ = ["LOGGERS", "LoggedStudy", "Logger", "register_logger"]

L = TypeVar("L", bound="type[Logger]")


@dataclass(frozen=True)
class LoggedStudy:
    """The search whose trials are logged.

    Attributes:
        name: Name of the run folder.
        folder: The run folder, as an absolute path.
        created: Date and time at which the run was created. Together with the name it identifies the search.
    """

    name: str
    folder: Path
    created: str

    def id_of(self, name: str) -> str:
        """Return the same 16 hexadecimal digits for the same trial of this search, however often it is resumed."""
        return text_hash(f"{self.name} {self.created} {name}")


class Logger(ABC):
    """Sends the trials of a search to another program. A trial is one training of one plan with one seed.

    The process that proposes the plans makes the calls, when a training has ended. So for each trial `start_trial`,
    `curve` for each epoch, and `end_trial` follow each other directly, and no other trial comes in between. Whatever a
    method raises, the search continues without the logger.

    Args:
        study: The search.

    Attributes:
        package: Name under which the package that the logger needs is imported. "" if it needs none. The package must
            be imported by the constructor and not with the logger's file.
    """

    package: ClassVar[str] = ""

    def __init__(self, study: LoggedStudy) -> None:
        self.study = study

    @property
    def destination(self) -> str:
        """Where the trials go. A trial that was logged there already is not logged again when the search is resumed."""
        return ""

    @property
    def hint(self) -> str:
        """What a user does to see the trials, for instance a command. "" if there is nothing to say."""
        return ""

    @abstractmethod
    def start_trial(self, name: str, params: Mapping[str, Any]) -> None:
        """Begin a trial.

        Args:
            name: Name of the trial, such as `trial-17-seed-0`. Within a search, no two trials have the same name.
            params: Text and numbers known before the training: trial, plan, plan_hash, seed, epochs, backbone, task,
                device, and the costs.
        """

    @abstractmethod
    def curve(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the values of an epoch.

        Args:
            step: Number of the epoch, from 1.
            metrics: Training loss, learning rate, seconds since the start, and validation metrics.
        """

    @abstractmethod
    def end_trial(self, metrics: Mapping[str, float], state: str, reason: str) -> None:
        """End a trial.

        Args:
            metrics: Validation metrics after the training, costs, and the seconds that it took.
            state: "complete", "rejected" or "failed".
            reason: Why the trial is not complete. "" if it is.
        """

    def log_verdicts(self, rows: Sequence[Mapping[str, Any]]) -> None:  # noqa: B027  # a logger need not have it
        """Log what the search says of the plans that it compared, at its end.

        Args:
            rows: One for each plan, with text and numbers: `name` of its first trial, plan, seeds, verdict, and, where
                the search has them, difference, difference_low, difference_high, p_better.
        """

    def close(self) -> None:  # noqa: B027  # a logger need not have it
        """Release what the logger holds, when the search ends."""


LOGGERS: Registry[type[Logger]] = Registry("logger")
"""All registered loggers."""


def register_logger(name: str) -> Callable[[L], L]:
    """Register a subclass of `Logger`, so that `--log NAME` uses it.

    Raises:
        PluginError: If the class is not a `Logger`, or if another class has the name.

    Example:
        >>> from nasbench.study.loggers import Logger, register_logger
        >>> @register_logger("printed")
        ... class Printed(Logger):
        ...     def start_trial(self, name, params):
        ...         print(name, params["plan"])
        ...     def curve(self, step, metrics):
        ...         print(step, metrics)
        ...     def end_trial(self, metrics, state, reason):
        ...         print(state, metrics)
    """
    frame = sys._getframe(1)  # the caller is the file of the logger, which every message about it must name
    file, line = frame.f_code.co_filename, frame.f_lineno

    def register(cls: L) -> L:
        if not (isinstance(cls, type) and issubclass(cls, Logger)):
            raise PluginError(f"{file}:{line}: logger {name!r} is not a subclass of nasbench.study.loggers.Logger")
        LOGGERS.add(name, cls, origin=f"{file}:{line}", identity=f"{_content_of(file)}:{cls.__qualname__}")
        return cls

    return register


def _content_of(file: str) -> str:
    """Return the hash of a file's content, so that a plug-in and its copy in a run folder are the same."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:  # the code does not come from a file, as in a notebook
        return file
