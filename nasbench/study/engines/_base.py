"""The base class of engines. An engine answers requests in any order. If a worker dies, that is an answer too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from nasbench.runs.evaluation import Evaluation
from nasbench.study.evaluators.base import Request
from nasbench.study.evaluators.pace import Pace

__all__ = ["Answer", "Engine", "Lost", "late"]


@dataclass(frozen=True)
class Lost:
    """The answer to a request whose worker died. The request need not be the cause."""

    reason: str


Answer = Evaluation | Lost
"""The answer to a request: its evaluation, or the loss of its worker."""


def late(timeout_s: float) -> str:
    """Return the reason of an evaluation that took too long."""
    return f"timeout: still running after {timeout_s:g} s"


class Engine(ABC):
    """Evaluates up to `capacity` requests at the same time. As a context manager, it ends every worker on exit.

    Attributes:
        capacity: Number of evaluations that can run at the same time.
        start_note: A message for the user before the first request, if starting the workers is slow. "" for none.
        tell: Called with a message for the user when something holds up the engine. By default nobody is told.
        hear: Called with the ticket of a request and the pace of its training, a few times a minute. An engine that
            does not know the pace, such as that of a cluster, does not call it.
    """

    capacity: int
    start_note: str = ""
    tell: Callable[[str], None] = staticmethod(lambda message: None)
    hear: Callable[[int, Pace], None] = staticmethod(lambda ticket, pace: None)

    @abstractmethod
    def submit(self, ticket: int, request: Request) -> None:
        """Accept a request.

        Args:
            ticket: A number that is returned with the answer. It must be unique among the requests without an answer.
            request: The request.
        """

    @abstractmethod
    def wait(self, timeout_s: float | None = None) -> list[tuple[int, Answer]]:
        """Wait for answers.

        Args:
            timeout_s: Seconds after which the method returns without an answer. With None it waits until there is an
                answer.

        Returns:
            Answers with their tickets, oldest first. Empty if no request is running or queued.

        Raises:
            NasbenchError: If no worker can be started.
        """

    @abstractmethod
    def limit_time(self, timeout_s: float) -> bool:
        """Set a time limit for all later requests. The answer to a request that exceeds it is a failed evaluation.

        Returns:
            Whether the engine can limit the time.
        """

    def held_up(self) -> str:
        """Return why the queued requests do not start, if no request is running. "" otherwise."""
        return ""

    def close(self) -> None:  # noqa: B027  # an engine without workers has nothing to close
        """End every worker at once. Running requests are lost."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
