"""The engine that evaluates in the process of the search itself, one request at a time."""

from __future__ import annotations

from nasbench.study.engines._base import Answer, Engine
from nasbench.study.evaluators.base import Evaluator, Request

__all__ = ["Inline"]


class Inline(Engine):
    """Evaluates in this process. An evaluation that hangs or kills its process stops the search until it is resumed.

    Args:
        evaluator: Evaluates plans.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.capacity = 1
        self._evaluator = evaluator
        self._requests: list[tuple[int, Request]] = []

    def submit(self, ticket: int, request: Request) -> None:
        """Accept a request."""
        self._requests.append((ticket, request))

    def wait(self, timeout_s: float | None = None) -> list[tuple[int, Answer]]:
        """Evaluate the oldest request. The timeout has no effect."""
        if not self._requests:
            return []
        ticket, request = self._requests.pop(0)
        return [(ticket, self._evaluator.evaluate(request))]
