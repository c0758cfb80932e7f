"""What a worker builds its evaluator from, wherever it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle

from nasbench.errors import InputError
from nasbench.study.evaluators.base import Evaluator

__all__ = ["Workplace", "threads_for"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Workplace:
    """The settings of a search, from which a worker makes its own evaluator once, or an evaluator as it is.

    Attributes:
        settings: Fields of `SearchSettings`.
        sent: The evaluator, where it can be sent; None where a worker builds its own.
        device: The torch device; as in `settings` where None.
    """

    settings: dict[str, Any]
    sent: Evaluator | None = None
    device: str | None = None

    def on(self, device: str) -> Workplace:
        """Return it with another device."""
        return replace(self, device=device)

    def evaluator(self) -> Evaluator:
        """Build the evaluator: plug-ins are loaded and data are read."""
        if self.sent is not None:
            return self.sent
        from nasbench.runs.settings import SearchSettings  # these import torch, which asking a function does not need
        from nasbench.study.problem import make_problem

        settings = {**self.settings, "device": self.device or self.settings["device"]}
        return make_problem(SearchSettings.model_validate(settings)).evaluator

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
