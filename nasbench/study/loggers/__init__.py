"""Loggers send the trials of a search to a program that shows them, such as TensorBoard, MLflow or W&B.

A logger is a class with three methods, registered by name. A file given by `--modules` can register one too.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from nasbench.errors import InputError, PluginError
from nasbench.library.registry import Registry
from nasbench.study.loggers._base import LoggedStudy, Logger

__all__ = ["LOGGERS", "LoggedStudy", "Logger", "check_loggers", "register_logger"]

L = TypeVar("L", bound=type[Logger])


def _load() -> None:
    # imported here, because these files register their loggers with the function below
    from nasbench.study.loggers import to_mlflow, to_tensorboard, to_wandb  # noqa: F401


LOGGERS: Registry[type[Logger]] = Registry("logger", _load)
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


def check_loggers(names: Iterable[str]) -> None:
    """Check that each logger exists and that its package is installed. The package is not imported.

    Raises:
        UnknownNameError: If there is no such logger. Suggests the nearest names.
        InputError: If its package is not installed.
    """
    for name in names:
        logger = LOGGERS.get(name)
        if logger.package and find_spec(logger.package) is None:
            raise InputError(f'--log {name} needs the package {logger.package}: pip install "nasbench[{name}]"')
