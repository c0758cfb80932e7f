"""Evaluates in the process of the search itself, one job at a time: nothing to start, nothing to send."""

from __future__ import annotations

from nasbench.runs.evaluation import Evaluator
from nasbench.study.engines._base import Answer, Engine, Job, evaluate_job

__all__ = ["Inline"]


class Inline(Engine):
    """The engine of one worker. What hangs or is killed takes the search with it, until it is resumed.

    Args:
        evaluator: Evaluates plans.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.capacity = 1
        self._evaluator = evaluator
        self._jobs: list[tuple[int, Job]] = []

    def submit(self, ticket: int, job: Job) -> None:
        """Take a job."""
        self._jobs.append((ticket, job))

    def wait(self, timeout_s: float | None = None) -> list[tuple[int, Answer]]:
        """Evaluate the oldest job, however long it takes."""
        if not self._jobs:
            return []
        ticket, job = self._jobs.pop(0)
        return [(ticket, evaluate_job(self._evaluator, job))]
