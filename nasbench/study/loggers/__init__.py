"""Loggers send the trials of a search to a program that shows them, such as TensorBoard, MLflow or W&B.

A logger is a class with three methods, registered by name. A file given by `--modules` can register one too.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from nasbench.errors import InputError
from nasbench.study.loggers import to_mlflow, to_tensorboard, to_wandb  # noqa: F401  # they register their loggers
from nasbench.study.loggers._base import LOGGERS, LoggedStudy, Logger, register_logger

__all__ = ["LOGGERS", "LoggedStudy", "Logger", "check_loggers", "register_logger"]


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
