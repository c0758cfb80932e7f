"""Proposes every plan once, in a seeded order that needs no list of all plans."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from nasbench.library.plan import Plan
from nasbench.study.samplers._base import PlanSampler
from nasbench.study.samplers.history import History
from nasbench.study.samplers.knowledge import stream

__all__ = ["GridSampler", "strided"]

_GOLDEN = (math.sqrt(5) - 1) / 2


class GridSampler(PlanSampler):
    """Visits the numbered plans of a space with a fixed stride, so that the first plans are spread over the space.

    The study's seed determines the start and the stride. Plans that break a known constraint come last.
    """

    def propose(self, history: History, rng: random.Random) -> Plan | None:
        """Return the next unseen plan in the order of the grid."""
        space, refused = self.knowledge.space, None
        for index in strided(space.count, stream(self.knowledge.seed, "grid")):
            plan = space.at(index)
            if plan not in history.seen:
                if self.knowledge.allowed(plan):
                    return plan
                refused = plan if refused is None else refused
        return refused


def strided(count: int, rng: random.Random) -> Iterator[int]:
    """Yield every number below `count` once, in steps of a stride near 0.618 `count` (the golden section)."""
    # the first n multiples of the golden section, modulo 1, are spread evenly for every n (a low-discrepancy sequence)
    start = rng.randrange(count)
    stride = max(1, round(count * _GOLDEN) + rng.randrange(max(1, count // 100)))
    while math.gcd(stride, count) != 1:  # only with a stride coprime to `count`, every number is visited
        stride += 1
    return ((start + step * stride) % count for step in range(count))
