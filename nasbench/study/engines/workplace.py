"""The description from which a worker builds its evaluator, on this or another machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle

from nasbench.errors import InputError
from nasbench.study.evaluators.base import Evaluator

__all__ = ["Workplace", "threads_for"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Workplace:
    """The settings from which a worker builds its evaluator, or the evaluator itself if it can be sent.

    Attributes:
        settings: Fields of `SearchSettings`.
        sent: The evaluator, if it can be sent to another process. None if each worker builds its own from `settings`.
        device: The torch device. None means the device in `settings`.
        arguments: `sys.argv` of the search, which a user's function can read.
    """

    settings: dict[str, Any]
    sent: Evaluator | None = None
    device: str | None = None
    arguments: Sequence[str] = ()

    def on(self, device: str) -> Workplace:
        """Return this workplace with another device."""
        return replace(self, device=device)

    def evaluator(self) -> Evaluator:
        """Return the evaluator. Building it loads plug-ins and reads data. Sets this process's `sys.argv`."""
        sys.argv[1:] = self.arguments
        if self.sent is not None:
            return self.sent
        # imported here, because these imports need torch, which a worker that only calls a function does not need
        from nasbench.runs.settings import SearchSettings
        from nasbench.study.problem import make_problem

        settings = {**self.settings, "device": self.device or self.settings["device"]}
        return make_problem(SearchSettings.model_validate(settings)).evaluator

    def to_bytes(self) -> bytes:
        """Return this workplace as bytes that a worker can read.

        Raises:
            InputError: If the function cannot be sent to another process.
        """
        try:
            return cloudpickle.dumps(self)  # unlike pickle, cloudpickle can send lambdas and functions of a script
        except Exception as error:  # objects to which the function refers can raise any exception
            raise InputError(
                f"evaluate cannot be sent to worker processes ({type(error).__name__}: {error}); a function that "
                "refers to open files, locks or connections needs workers=1"
            ) from None


def threads_for(workers: int) -> dict[str, str]:
    """Return environment variables that divide this machine's cores among workers. Values set by the user are kept.

    If only OMP_NUM_THREADS is set, its value is used for every library. MKL itself does the same.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    each = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // workers)))
    return {name: os.environ.get(name, each) for name in _THREAD_VARIABLES}
