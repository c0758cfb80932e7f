"""Evaluates in the process of the search itself, one request at a time: nothing to start, nothing to send."""

from __future__ import annotations

from nasbench.study.engines._base import Answer, Engine
from nasbench.study.evaluators.base import Evaluator, Request

__all__ = ["Inline"]


class Inline(Engine):
    """The engine of one worker. What hangs or is killed takes the search with it, until it is resumed.

    Args:
        evaluator: Evaluates plans.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.capacity = 1
        self._evaluator = evaluator
        self._requests: list[tuple[int, Request]] = []

    def submit(self, ticket: int, request: Request) -> None:
        """Take a request."""
        self._requests.append((ticket, request))

    def wait(self, timeout_s: float | None = None) -> list[tuple[int, Answer]]:
        """Evaluate the oldest request, however long it takes."""
        if not self._requests:
            return []
        ticket, request = self._requests.pop(0)
        return [(ticket, self._evaluator.evaluate(request))]
