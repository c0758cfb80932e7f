"""The pace of a training that is running: how many steps are done, and how long the other steps will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Pace", "PaceMaker"]

FIRST_S, EVERY_S = 2.0, 10.0
"""Seconds from the end of the first step to the first report, and between two reports."""


@dataclass(frozen=True)
class Pace:
    """The pace of a training.

    Attributes:
        steps: Number of steps done, at least 2.
        total: Number of all steps.
        step_s: Mean duration of a step in seconds. The first step is left out, because it takes longer. Validations
            between two steps are included.
    """

    steps: int
    total: int
    step_s: float

    @property
    def left_s(self) -> float:
        """How long the other steps will take, in seconds."""
        return (self.total - self.steps) * self.step_s

    @property
    def training_s(self) -> float:
        """How long the whole training takes, in seconds, without the validation after it."""
        return self.total * self.step_s


class PaceMaker:
    """Measures the pace of one training and reports it.

    Args:
        total: Number of all steps of the training.
        watch: Called with the pace.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, total: int, watch: Callable[[Pace], object], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._total, self._watch, self._clock = total, watch, clock
        self._began, self._due = 0.0, float("inf")

    def step(self, steps: int) -> None:
        """Take the number of steps that are done. It is called after every step, and after every validation batch."""
        now = self._clock()
        if steps == 1:
            # A validation after the first step moves the beginning, so it is not counted as part of the second step.
            self._began, self._due = now, now + FIRST_S
        elif now >= self._due:
            self._due = now + EVERY_S
            self._watch(Pace(steps, self._total, (now - self._began) / (steps - 1)))
