"""Keeps several workers busy, one request each: kills what hangs, replaces what died or grew old."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nasbench.errors import NasbenchError
from nasbench.runs.evaluation import Evaluation
from nasbench.study.engines._base import Answer, Engine, Lost
from nasbench.study.evaluators.base import Request, failed

__all__ = ["MAX_REQUESTS", "START_S", "Broken", "Pool", "Ready", "Worker"]

MAX_REQUESTS = 100
"""Requests after which a worker is replaced: what a user's module leaks is gone with its process."""

START_S = 1800.0
"""Seconds within which one worker must get ready: as long as a busy cluster is waited for."""

_MAX_STARTS = 3
"""Workers of one place that may die in a row before they were ready."""


@dataclass(frozen=True)
class Ready:
    """A worker has built its evaluator."""


@dataclass(frozen=True)
class Broken:
    """A worker could not build its evaluator, for the reason in `text`."""

    text: str


class Worker(Protocol):
    """A process, here or elsewhere, that does one request at a time."""

    def give(self, request: Request) -> None:
        """Hand it a request. Never raises for a worker that died: `take` tells."""

    def take(self) -> Ready | Evaluation | Lost | Broken:
        """Return what it has to say; waits for it."""

    def kill(self) -> None:
        """End it at once and wait until it is gone."""


@dataclass
class _Place:
    """One place for a worker, and what it is doing."""

    number: int
    worker: Worker | None = None
    ready: bool = False
    ticket: int | None = None
    request: Request | None = None
    began: float = 0.0
    done: int = 0
    failed_starts: int = 0
    started: float = math.inf

    def vacate(self) -> None:
        if self.worker is not None:
            self.worker.kill()
        self.worker, self.ready, self.done, self.started = None, False, 0, math.inf

    def rest(self) -> int:
        ticket, self.ticket, self.request = self.ticket, None, None
        assert ticket is not None
        return ticket


class Pool(Engine):
    """An engine of several workers.

    Args:
        start: Starts the worker of a place, numbered from 0.
        listen: Waits until one of some workers has something to say, for so many seconds (None: as long as it
            takes), and returns those that have.
        size: Workers.
        timeout_s: Seconds after which a request counts as hung and its worker is killed; None lets it run.
        max_requests: Requests after which a worker is replaced.
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
        """Take a request; it starts at once where a worker is free."""
        self._queue.append((ticket, request))
        self._hand_out()

    def wait(self, timeout_s: float | None = None) -> list[tuple[int, Answer]]:
        """Wait for answers; see `Engine.wait`."""
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        answers: list[tuple[int, Answer]] = []
        while not answers and (self._queue or any(place.request for place in self._places)):
            self._hand_out()
            due = [place.began + self._timeout_s for place in self._places if place.request]
            pause = min([end, self._give_up, *due]) - time.monotonic()
            by_worker = {id(place.worker): place for place in self._places if place.worker is not None}
            workers = [place.worker for place in by_worker.values() if place.worker is not None]
            for worker in self._listen(workers, None if pause == math.inf else max(0.0, pause)):
                answers += self._hear(by_worker[id(worker)])
            answers += self._overdue()
            if time.monotonic() >= self._give_up:
                raise NasbenchError(f"no worker got ready within {START_S:g} s: {self.held_up()}")
            if time.monotonic() >= end:
                break
        self._hand_out()
        return answers

    def held_up(self) -> str:
        """Say what requests wait for; see `Engine.held_up`."""
        return "" if self._give_up == math.inf else f"{self.capacity} worker(s) starting, none of them ready yet"

    @property
    def _give_up(self) -> float:
        """When to give up waiting for a first worker; never where one is ready."""
        if not self._queue or any(place.ready for place in self._places):
            return math.inf
        return max(place.started for place in self._places) + START_S

    def close(self) -> None:
        """Kill every worker."""
        self._queue.clear()
        for place in self._places:
            place.request = place.ticket = None
            place.vacate()

    def _hand_out(self) -> None:
        """Start workers where there are none, and give queued requests to those that are free."""
        if not self._queue:
            return
        for place in self._places:
            if place.worker is None:
                place.worker, place.started = self._start(place.number), time.monotonic()
            elif place.ready and place.request is None and self._queue:
                place.ticket, place.request = self._queue.popleft()
                place.began = time.monotonic()
                place.worker.give(place.request)

    def _hear(self, place: _Place) -> list[tuple[int, Answer]]:
        assert place.worker is not None
        said = place.worker.take()
        if isinstance(said, Ready):
            place.ready, place.failed_starts = True, 0
            return []
        if isinstance(said, Evaluation):
            place.done += 1
            if place.done >= self._max_requests:
                place.vacate()
            return [(place.rest(), said)]
        if isinstance(said, Broken):
            raise NasbenchError(f"a worker could not start: {said.text}")
        return self._bury(place, said)

    def _bury(self, place: _Place, lost: Lost) -> list[tuple[int, Answer]]:
        """Note a worker's death; with its request, if it had one."""
        if not place.ready:
            place.failed_starts += 1
            if place.failed_starts >= _MAX_STARTS:
                raise NasbenchError(f"workers die before they are ready: {lost.reason}")
        place.vacate()
        return [(place.rest(), lost)] if place.request is not None else []

    def _overdue(self) -> list[tuple[int, Answer]]:
        """Kill the workers whose requests take too long."""
        answers: list[tuple[int, Answer]] = []
        now = time.monotonic()
        for place in self._places:
            if place.request is not None and now - place.began >= self._timeout_s:
                reason = f"timeout: still running after {self._timeout_s:g} s, so its process was killed"
                result = failed(place.request, reason, now - place.began)
                place.vacate()
                answers.append((place.rest(), result))
        return answers
