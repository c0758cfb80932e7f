"""Trained models of the trials whose weights were stored. The task and the models are built when first needed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from nasbench.errors import RunError
from nasbench.library.plan import Plan
from nasbench.runs.run import Run

if TYPE_CHECKING:  # a run without models is reported without torch
    from torch import nn

    from nasbench.runs.models import ModelBuilder
    from nasbench.tasks import Task

__all__ = ["TrainedModels"]


class TrainedModels:
    """Loads the trained model of a trial.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def numbers(self) -> set[int]:
        """Numbers of the trials whose weights were stored."""
        return self.run.folder.stored_weights

    @property
    def task(self) -> Task:
        """The task of the run, with its data.

        Raises:
            RunError: If the data is gone, or if the run has Python code of its own and is not trusted.
        """
        # The error is stored and raised again, so that several parts of a report do not each look for the data.
        if isinstance(self._task, RunError):
            raise self._task
        return self._task

    @cached_property
    def device(self) -> str:
        """The device on which models are evaluated."""
        from nasbench.measurement.latency.devices import usable_device

        return str(usable_device(self.run.settings.device))

    def load(self, number: int, plan: str) -> nn.Module:
        """Return the model of a trial, in eval mode on the device.

        Args:
            number: The trial.
            plan: Text of its plan.

        Raises:
            RunError: If its weights were not stored, or if the run has Python code of its own and is not trusted.
        """
        model = self._builder.build(Plan.of(plan), self.run.settings.seed)
        return self.run.folder.load_weights(number, model).to(self.device).eval()

    @cached_property
    def _task(self) -> Task | RunError:
        try:
            return self.run.task()
        except RunError as error:
            return error

    @cached_property
    def _builder(self) -> ModelBuilder:
        # Pretrained weights are not loaded. That can need a download, and the stored weights replace them anyway.
        return self.run.builder().without_weights()
