"""What a worker builds its evaluator from, wherever it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle

from nasbench.errors import InputError
from nasbench.runs.evaluation import Evaluator
from nasbench.study.evaluators.asked import CallableEvaluator

__all__ = ["Workplace", "threads_for"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Workplace:
    """The settings of a search, or the function that evaluates; a worker makes its own evaluator of them, once.

    Attributes:
        settings: Fields of `SearchSettings`.
        asked: The evaluator where a function is asked; None where plans are trained.
        device: The torch device; as in `settings` where None.
    """

    settings: dict[str, Any]
    asked: CallableEvaluator | None = None
    device: str | None = None

    def on(self, device: str) -> Workplace:
        """Return it with another device."""
        return replace(self, device=device)

    def evaluator(self) -> Evaluator:
        """Build the evaluator: plug-ins are loaded and data are read."""
        if self.asked is not None:
            return self.asked
        from nasbench.runs.settings import SearchSettings
        from nasbench.study.problem import prepare

        settings = {**self.settings, "device": self.device or self.settings["device"]}
        return prepare(SearchSettings.model_validate(settings)).evaluator

    def to_bytes(self) -> bytes:
        """Return it as a worker can read it.

        Raises:
            InputError: If the function cannot be sent to another process.
        """
        try:
            return cloudpickle.dumps(self)
        except Exception as error:  # whatever the function's parts raise
            raise InputError(
                f"evaluate cannot be sent to worker processes ({type(error).__name__}: {error}); "
                "leave out what it holds open (files, locks, connections), or use workers=1"
            ) from None


def threads_for(workers: int) -> dict[str, str]:
    """Return environment variables that share the machine's cores among workers, where the user set none.

    Whoever sets OMP_NUM_THREADS alone means every library, as MKL does.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    each = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // workers)))
    return {name: os.environ.get(name, each) for name in _THREAD_VARIABLES}
