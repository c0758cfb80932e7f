"""The engine that evaluates in the process of the search itself, one request at a time."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nasbench.study.engines._base import Answer, Engine, late
from nasbench.study.evaluators.base import Evaluator, Request, TimeUp, failed

__all__ = ["Inline"]

_AGAIN_S = 10.0
"""Seconds between two alarms. If an evaluation catches the first alarm and continues, it gets another one."""


class Inline(Engine):
    """Evaluates in this process. If an evaluation kills the process, the search has to be resumed by hand.

    An evaluation that exceeds the time limit is stopped by a signal of the system (an alarm). The alarm stops Python
    code at once, but native code only when it returns. To stop every evaluation, it must run in another process, which
    can be killed. `--trial-timeout` uses one.

    Args:
        evaluator: Evaluates plans.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.capacity = 1
        self._evaluator = evaluator.watched(lambda pace: self.hear(self._ticket, pace))
        self._ticket = -1  # of the request that is being evaluated
        self._requests: list[tuple[int, Request]] = []
        self._timeout_s = math.inf

    def submit(self, ticket: int, request: Request) -> None:
        """Accept a request."""
        self._requests.append((ticket, request))

    def wait(self, timeout_s: float | None = None) -> list[tuple[int, Answer]]:
        """Evaluate the oldest request. The timeout has no effect."""
        if not self._requests:
            return []
        ticket, request = self._requests.pop(0)
        self._ticket = ticket
        begun = time.perf_counter()
        try:
            with _alarm(self._timeout_s):
                return [(ticket, self._evaluator.evaluate(request))]
        except TimeUp:
            return [(ticket, failed(request, late(self._timeout_s), time.perf_counter() - begun))]

    def limit_time(self, timeout_s: float) -> bool:
        """Limit the time of a request. This is possible only in the main thread. See `Engine.limit_time`."""
        if threading.current_thread() is not threading.main_thread():  # only the main thread receives alarms
            return False
        if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:  # the user's program uses the alarm itself
            return False
        self._timeout_s = timeout_s
        return True


@contextmanager
def _alarm(timeout_s: float) -> Iterator[None]:
    """Return a context that raises `TimeUp` after this time, and then again every `_AGAIN_S` seconds."""
    if timeout_s == math.inf:
        yield
        return

    def ring(*_: object) -> None:
        raise TimeUp

    signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, timeout_s, _AGAIN_S)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
