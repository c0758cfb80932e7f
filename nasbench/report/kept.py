"""The trained models of a run whose weights were kept; the task and a model are built when they are first asked for."""

from __future__ import annotations

from functools import cached_property

from torch import nn

from nasbench.library.plan import Plan
from nasbench.runs.run import Run
from nasbench.study.evaluators.trained import TrainingEvaluator
from nasbench.study.problem import prepare

__all__ = ["KeptModels"]


class KeptModels:
    """Trial number to trained model.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def numbers(self) -> set[int]:
        """The trials whose weights were kept."""
        return {int(f.stem.split("-")[1]) for f in (self.run.path / "models").glob("trial-*.safetensors")}

    @cached_property
    def evaluator(self) -> TrainingEvaluator:
        """What trained them: it has the task and the device."""
        evaluator = prepare(self.run.settings).evaluator
        assert isinstance(evaluator, TrainingEvaluator)  # weights are kept for trained plans alone
        return evaluator

    def load(self, number: int, plan: str) -> nn.Module:
        """Return the model of a trial and its plan's text, in eval mode on the evaluator's device.

        Raises:
            RunError: If its weights were not kept.
        """
        model = self.evaluator.build(Plan.of(plan), self.run.settings.seed)
        return self.run.weights(number, model).to(self.evaluator.device).eval()
