"""Randomised blocks: each block runs every candidate and the reference once, in random order.

Blocks are added until the intervals are narrow enough or the time limit is reached.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nasbench.measurement.latency.intervals import MIN_PAIRS

__all__ = ["OK", "PREEMPTED", "SLOW_CLOCK", "Blocks", "Runner", "Sample", "Stopped", "run_blocks", "warm_up"]

Stopped = Literal["resolution", "time", "blocks", "no accepted samples"]

OK, PREEMPTED, SLOW_CLOCK = 0, 1, 2
"""Flaws of a sample: none, preempted by another process, or taken while the GPU's clock was below 75 % of its default.
A higher number means a worse flaw."""

MAX_DISCARDS = 200
"""After this many blocks, and after each multiple, a measurement ends if a candidate has no accepted block yet."""

_WINDOW = 20  # the warm-up ends when the time shows no trend over this many rounds
_FIRST_CHECK = 30  # number of blocks before the first check of the intervals


@dataclass(frozen=True)
class Sample:
    """One timed call.

    Attributes:
        ms: Time on the device in milliseconds. For a preempted call on one thread, the time for which it had the core.
        wall_ms: Time on the host in milliseconds, until the result was available.
        flaw: OK, PREEMPTED or SLOW_CLOCK.
    """

    ms: float
    wall_ms: float
    flaw: int = OK


Runner = Callable[[], Sample]


@dataclass
class Blocks:
    """The samples of a measurement. Item i of every list belongs to block i.

    Attributes:
        ms: For each candidate, the times on the device in milliseconds.
        wall_ms: For each candidate, the times on the host in milliseconds.
        flaws: For each candidate, the flaws of its samples.
    """

    ms: dict[str, list[float]] = field(default_factory=dict)
    wall_ms: dict[str, list[float]] = field(default_factory=dict)
    flaws: dict[str, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.ms.values()), []))

    def add(self, samples: Mapping[str, Sample]) -> None:
        """Append one block."""
        for name, sample in samples.items():
            self.ms.setdefault(name, []).append(sample.ms)
            self.wall_ms.setdefault(name, []).append(sample.wall_ms)
            self.flaws.setdefault(name, []).append(sample.flaw)

    def ordered(self, names: Sequence[str]) -> Blocks:
        """Return the same samples with the candidates in another order."""
        ms, wall_ms = ({name: table[name] for name in names} for table in (self.ms, self.wall_ms))
        return Blocks(ms, wall_ms, {name: self.flaws[name] for name in names})

    def accepted(self, *names: str) -> list[int]:
        """Return the numbers of the blocks in which no sample of `names` has a flaw.

        On a busy machine, fewer than eight blocks may be free of preemption. In this case preempted blocks are accepted
        too. If they were not, a candidate that takes longer than a time slice would have no accepted sample at all. A
        block with a slow clock is never accepted.
        """
        worst = [max(flaws) for flaws in zip(*[self.flaws[name] for name in names], strict=True)]
        clean = [i for i, flaw in enumerate(worst) if flaw == OK]
        return clean if len(clean) >= MIN_PAIRS else [i for i, flaw in enumerate(worst) if flaw < SLOW_CLOCK]


def warm_up(runners: Mapping[str, Runner], *, now: Callable[[], float], until: float) -> tuple[int, bool]:
    """Run rounds of all candidates until the time of a round shows no trend over the last rounds.

    Args:
        runners: For each candidate, a function that runs it once.
        now: Function that returns the time of a clock, in seconds.
        until: Time of this clock at which to stop waiting for a steady state.

    Returns:
        The number of rounds, and whether the state was steady at the end.
    """
    totals: list[float] = []
    while True:
        totals.append(sum(run().wall_ms for run in runners.values()))
        if len(totals) >= _WINDOW and len(totals) % (_WINDOW // 4) == 0 and _steady(totals[-_WINDOW:]):
            return len(totals), True
        if now() >= until:
            return len(totals), False


def _steady(window: Sequence[float]) -> bool:
    """Return whether a window shows no trend.

    There is no trend if the medians of its halves differ by at most 1 %, or if Kendall's rank test finds no trend at
    the 5 % level.
    """
    half = len(window) // 2
    first, second = statistics.median(window[:half]), statistics.median(window[half:])
    if abs(first - second) <= 0.01 * second:
        return True
    return not _has_trend(window)


def _has_trend(values: Sequence[float]) -> bool:
    """Return whether Kendall's rank test finds a trend at the 5 % level, by its normal approximation.

    For the 20 rounds of a window, the approximation decides in the same way as the exact test (Mann, "Nonparametric
    tests against trend", Econometrica 1945). scipy has the test too, but to import it would take seconds of the
    warm-up.
    """
    n = len(values)
    rising = sum((later > earlier) - (later < earlier) for earlier, later in itertools.combinations(values, 2))
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    # `rising` changes in steps of 2, so the continuity correction is 1.
    return math.erfc(max(abs(rising) - 1, 0) / deviation / math.sqrt(2)) <= 0.05


def run_blocks(
    runners: Mapping[str, Runner],
    *,
    seed: int,
    now: Callable[[], float],
    until: float,
    max_blocks: int | None,
    settled: Callable[[Blocks], bool],
) -> tuple[Blocks, Stopped]:
    """Run blocks until the intervals are narrow enough, the time limit is reached, or there are enough blocks.

    Args:
        runners: For each candidate, including the reference, a function that runs it once.
        seed: Seed of the order within each block.
        now: Function that returns the time of a clock, in seconds.
        until: Time of this clock at which to stop.
        max_blocks: Largest number of blocks. None means no limit.
        settled: Function that returns whether the intervals from the blocks so far are narrow enough.

    Returns:
        The blocks, and why the measurement stopped.
    """
    rng, names, blocks = random.Random(seed), list(runners), Blocks()
    check = _FIRST_CHECK
    while True:
        rng.shuffle(names)  # otherwise a candidate would always run after the same other candidate
        blocks.add({name: runners[name]() for name in names})
        n = len(blocks)
        if n >= check:
            check = n + max(10, n // 10)  # a check sorts all samples, so checks become rarer as the samples become more
            if settled(blocks):
                return blocks, "resolution"
        hopeless = n % MAX_DISCARDS == 0 and _none_accepted(blocks)
        if now() >= until or n == max_blocks or hopeless:
            if _none_accepted(blocks):
                return blocks, "no accepted samples"
            return blocks, "blocks" if n == max_blocks else "time"


def _none_accepted(blocks: Blocks) -> bool:
    return any(not blocks.accepted(name) for name in blocks.ms)
