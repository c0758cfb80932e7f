"""The base class of engines with several workers.

The pool kills workers that hang. It replaces workers that died or have answered many requests.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nasbench.errors import NasbenchError
from nasbench.runs.evaluation import Evaluation
from nasbench.study.engines._base import Answer, Engine, Lost, late
from nasbench.study.evaluators.base import Request, failed
from nasbench.study.evaluators.pace import Pace

__all__ = ["MAX_REQUESTS", "START_S", "Broken", "Pool", "Ready", "Worker"]

MAX_REQUESTS = 100
"""Number of requests after which a worker is replaced. A new worker frees the memory that a user's module leaks."""

START_S = 1800.0
"""Seconds within which at least one worker must become ready. It is long, because a cluster can be busy."""

_MAX_STARTS = 3
"""If this number of workers in a row die in the same place before they are ready, the search ends with an error."""


@dataclass(frozen=True)
class Ready:
    """The message of a worker that has built its evaluator."""


@dataclass(frozen=True)
class Broken:
    """The message of a worker that could not build its evaluator. `text` is the reason."""

    text: str


class Worker(Protocol):
    """A process, on this or another machine, that evaluates one request at a time."""

    def give(self, request: Request) -> None:
        """Send a request. If the worker is dead, this raises no error, and `take` returns `Lost`."""

    def take(self) -> Ready | Evaluation | Lost | Broken | Pace:
        """Wait for the worker's next message and return it."""

    def kill(self) -> None:
        """End the worker at once, and wait until it has ended."""


@dataclass
class _Place:
    """One place in the pool, with the state of its worker. When the worker is replaced, the place stays the same."""

    number: int
    worker: Worker | None = None
    ready: bool = False
    ticket: int | None = None
    request: Request | None = None
    began: float = 0.0
    done: int = 0
    failed_starts: int = 0
    started: float = math.inf

    def clear(self) -> None:
        """Kill the worker. A new one is then started in this place."""
        if self.worker is not None:
            self.worker.kill()
        self.worker, self.ready, self.done, self.started = None, False, 0, math.inf

    def rest(self) -> int:
        """Return the ticket of the request that has been answered, and forget the request."""
        ticket, self.ticket, self.request = self.ticket, None, None
        assert ticket is not None
        return ticket


class Pool(Engine):
    """An engine with several workers.

    Args:
        start: Starts a worker in a place, which is given by its number from 0.
        listen: Waits until at least one of the given workers has a message, but at most for the given seconds (None
            means no limit). Returns the workers that have a message.
        size: Number of workers.
        timeout_s: Seconds after which a request is considered hung and its worker is killed. None for no limit.
        max_requests: Number of requests after which a worker is replaced.
    """

    def __init__(
        self,
        start: Callable[[int], Worker],
        listen: Callable[[Sequence[Worker], float | None], Sequence[Worker]],
        size: int,
        *,
        timeout_s: float | None = None,
        max_requests: int = MAX_REQUESTS,
    ) -> None:
        self.capacity = size
        self._start, self._listen = start, listen
        self._timeout_s, self._max_requests = timeout_s or math.inf, max_requests
        self._places = [_Place(number) for number in range(size)]
        self._queue: deque[tuple[int, Request]] = deque()

    def submit(self, ticket: int, request: Request) -> None:
        """Accept a request. It starts at once if a worker is free."""
        self._queue.append((ticket, request))
        self._assign()

    def wait(self, timeout_s: float | None = None) -> list[tuple[int, Answer]]:
        """Wait for answers. See `Engine.wait`."""
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        answers: list[tuple[int, Answer]] = []
        while not answers and (self._queue or any(place.request for place in self._places)):
            self._assign()
            due = [place.began + self._timeout_s for place in self._places if place.request]
            # wake up at the earliest deadline, even if no worker sends a message
            pause = min([end, self._give_up, *due]) - time.monotonic()
            by_worker = {id(place.worker): place for place in self._places if place.worker is not None}
            workers = [place.worker for place in by_worker.values() if place.worker is not None]
            for worker in self._listen(workers, None if pause == math.inf else max(0.0, pause)):
                answers += self._receive(by_worker[id(worker)])
            answers += self._overdue()
            if time.monotonic() >= self._give_up:
                raise NasbenchError(f"no worker became ready within {START_S:g} s: {self.held_up()}")
            if time.monotonic() >= end:
                break
        self._assign()  # workers that have answered get new requests, while the search records their evaluations
        return answers

    def limit_time(self, timeout_s: float) -> bool:
        """Limit the time of a request. A worker that exceeds it is killed. See `Engine.limit_time`."""
        self._timeout_s = timeout_s
        return True

    def held_up(self) -> str:
        """Return why the queued requests do not start. See `Engine.held_up`."""
        return "" if self._give_up == math.inf else f"{self.capacity} worker(s) starting, none of them ready yet"

    @property
    def _give_up(self) -> float:
        """Time at which to stop waiting for the first worker. Infinite if a worker is ready or nothing is queued."""
        if not self._queue or any(place.ready for place in self._places):
            return math.inf
        return max(place.started for place in self._places) + START_S

    def close(self) -> None:
        """Kill every worker."""
        self._queue.clear()
        for place in self._places:
            place.request = place.ticket = None
            place.clear()

    def _assign(self) -> None:
        """Start missing workers, and give queued requests to free workers."""
        if not self._queue:
            return
        for place in self._places:
            if place.worker is None:
                place.worker, place.started = self._start(place.number), time.monotonic()
            elif place.ready and place.request is None and self._queue:
                place.ticket, place.request = self._queue.popleft()
                # measured from here, so that the time that a worker needs to start is not limited
                place.began = time.monotonic()
                place.worker.give(place.request)

    def _receive(self, place: _Place) -> list[tuple[int, Answer]]:
        """Return the answer in a worker's message, if it contains one."""
        assert place.worker is not None
        said = place.worker.take()
        if isinstance(said, Ready):
            place.ready, place.failed_starts = True, 0
            return []
        if isinstance(said, Pace):
            assert place.ticket is not None
            self.hear(place.ticket, said)
            return []
        if isinstance(said, Evaluation):
            place.done += 1
            if place.done >= self._max_requests:
                place.clear()
            return [(place.rest(), said)]
        if isinstance(said, Broken):  # the cause is in the settings or the data, so every worker would fail
            raise NasbenchError(f"a worker could not start: {said.text}")
        return self._record_death(place, said)

    def _record_death(self, place: _Place, lost: Lost) -> list[tuple[int, Answer]]:
        """Record that a worker died. If it was evaluating a request, return `Lost` as the answer."""
        if not place.ready:  # without a limit, workers that cannot start would be replaced forever
            place.failed_starts += 1
            if place.failed_starts >= _MAX_STARTS:
                raise NasbenchError(f"workers die before they are ready: {lost.reason}")
        place.clear()
        return [(place.rest(), lost)] if place.request is not None else []

    def _overdue(self) -> list[tuple[int, Answer]]:
        """Kill workers whose requests exceed the timeout, and return these requests as failed evaluations."""
        answers: list[tuple[int, Answer]] = []
        now = time.monotonic()
        for place in self._places:
            if place.request is not None and now - place.began >= self._timeout_s:
                reason = f"{late(self._timeout_s)}, so its process was killed"
                result = failed(place.request, reason, now - place.began)
                place.clear()
                answers.append((place.rest(), result))
        return answers
