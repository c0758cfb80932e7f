"""Shared code of the benchmarks: timing side by side, ratios with intervals, tables, the command line.

The candidates take turns in one process, in random order, so that a drift of the machine affects all of them alike. A
ratio is the median of the ratios of the rounds, with its 95 % bootstrap interval. Times on a CPU are processor time,
which a busy machine changes little. Times on a GPU are those of CUDA events.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from nasbench.measurement.latency.intervals import Interval, median_interval

CONFIDENCE = 0.95


def command_line(usage: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows a benchmark's docstring as it is written."""
    return argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)


def elapsed_s(work: Callable[[], object], repeats: int = 1, device: str = "cpu") -> float:
    """Return the seconds of one call of `work`, the mean of `repeats` calls in a row."""
    if torch.device(device).type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats
    begun = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - begun) / repeats


def times_side_by_side(
    works: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    device: str = "cpu",
    repeats: int = 1,
    at_least_s: float = 0.0,
) -> dict[str, list[float]]:
    """Time several candidates in turns, after one round of warm-up.

    Args:
        works: The functions to time, by name.
        rounds: Number of timings of each.
        device: Device on which they run.
        repeats: Number of calls in one timing.
        at_least_s: Shortest timing of the slowest candidate. Shorter timings get more calls, the same number for all.

    Returns:
        Seconds per call, by name. Item i of each list is of round i.
    """
    slowest = max(elapsed_s(work, repeats, device) for work in works.values())
    # The processor's clock may tick too coarsely for one short call, which then reads 0.
    repeats = max(repeats, math.ceil(at_least_s / max(slowest, 1e-6)))
    order = list(works)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            times[name].append(elapsed_s(works[name], repeats, device))
    return times


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Return the median of the paired ratios with its 95 % bootstrap interval."""
    return median_interval([a / b for a, b in zip(numerators, denominators, strict=True)], CONFIDENCE)


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive values."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def interval_text(interval: Interval) -> str:
    """Return "1.02 [0.98, 1.05]"."""
    estimate, low, high = interval
    return f"{estimate:.2f} [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True)
class Table:
    """A table printed line by line, as its figures come.

    Attributes:
        columns: Format of each column by heading, "<24" (left, 24 wide) or ">9" (right).
    """

    columns: Mapping[str, str]

    def print_head(self) -> None:
        """Print the headings."""
        self.print_row(*self.columns)

    def print_row(self, *cells: str) -> None:
        """Print one line of it."""
        print(" ".join(map(format, cells, self.columns.values())).rstrip(), flush=True)
