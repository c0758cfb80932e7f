"""What every engine offers: requests go in, answers come out in any order; a worker that dies is an answer too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType

from nasbench.runs.evaluation import Evaluation
from nasbench.study.evaluators.base import Request

__all__ = ["Answer", "Engine", "Lost"]


@dataclass(frozen=True)
class Lost:
    """A worker died with its request, whose fault it need not be."""

    reason: str


Answer = Evaluation | Lost
"""What comes of a request."""


class Engine(ABC):
    """Evaluates requests, up to `capacity` at a time. A context manager: leaving it ends every worker.

    Attributes:
        capacity: Evaluations that can run at once.
    """

    capacity: int

    @abstractmethod
    def submit(self, ticket: int, request: Request) -> None:
        """Take a request; `ticket`, unique among those at work, comes back with its answer."""

    @abstractmethod
    def wait(self, timeout_s: float | None = None) -> list[tuple[int, Answer]]:
        """Wait for answers.

        Args:
            timeout_s: Seconds after which it returns without any; None waits for one.

        Returns:
            Answers with their tickets, oldest first; none where nothing is at work.

        Raises:
            NasbenchError: If no worker can be started.
        """

    def held_up(self) -> str:
        """Say what requests wait for where none is at work though some are queued; "" where nothing holds them up."""
        return ""

    def close(self) -> None:  # noqa: B027  # an engine without workers has nothing to end
        """End every worker at once; requests at work are lost."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
