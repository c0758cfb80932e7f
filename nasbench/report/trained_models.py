"""The trained models of a run whose weights were kept; the task and a model are built when they are first asked for."""

from __future__ import annotations

from functools import cached_property

from torch import nn

from nasbench.library.plan import Plan
from nasbench.runs.models import ModelBuilder
from nasbench.runs.run import Run
from nasbench.study.problem import Problem, make_problem
from nasbench.tasks import Task

__all__ = ["TrainedModels"]


class TrainedModels:
    """Trial number to trained model.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def numbers(self) -> set[int]:
        """The trials whose weights were kept."""
        return self.run.folder.stored_weights

    @property
    def task(self) -> Task:
        """The task that they were trained on, with its data."""
        assert self._problem.task is not None  # weights are kept for trained plans alone
        return self._problem.task

    @property
    def device(self) -> str:
        """Where they are evaluated."""
        return self._problem.evaluator.device

    def load(self, number: int, plan: str) -> nn.Module:
        """Return the model of a trial and its plan's text, in eval mode on the device.

        Raises:
            RunError: If its weights were not kept.
        """
        model = self._builder.build(Plan.of(plan), self.run.settings.seed)
        return self.run.folder.load_weights(number, model).to(self.device).eval()

    @cached_property
    def _problem(self) -> Problem:
        return make_problem(self.run.settings)

    @cached_property
    def _builder(self) -> ModelBuilder:
        return self.run.builder().without_weights()
