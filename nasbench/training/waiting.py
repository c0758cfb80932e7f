"""Measure which share of a training was spent waiting for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["DATA_WAIT", "Waiting"]

DATA_WAIT = "data_wait"
"""Key of the share of an epoch's training time, in [0, 1], that the host waited for data. It is measured with a GPU."""


class Waiting:
    """A clock that runs while a loop waits for its next item.

    With a GPU it gives an upper bound of the time that the GPU was idle. The GPU still computes the steps before.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._begin, self._waited_s = clock, clock(), 0.0

    def watch(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the items, and add up the time until each is there."""
        iterator = iter(items)
        while True:
            asked = self._clock()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._waited_s += self._clock() - asked
            yield item

    def share(self) -> float:
        """Return the share of the time since the start that was spent waiting."""
        return self._waited_s / max(self._clock() - self._begin, 1e-9)
