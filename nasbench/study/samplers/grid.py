"""Every plan once, in a seeded order that needs no list of them."""

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
    """Walks over the numbered plans of the space with a stride: each once, early ones spread over all of it.

    Start and stride are fixed by the study's seed. Plans that break a known constraint come last.
    """

    def propose(self, history: History, rng: random.Random) -> Plan | None:
        """Return the next plan of the walk that was not seen."""
        space, refused = self.knowledge.space, None
        for index in strided(space.count, stream(self.knowledge.seed, "grid")):
            plan = space.at(index)
            if plan not in history.seen:
                if self.knowledge.allowed(plan):
                    return plan
                refused = plan if refused is None else refused
        return refused


def strided(count: int, rng: random.Random) -> Iterator[int]:
    """Yield every number below `count` once: a stride near the golden section of it that has no divisor with it."""
    start = rng.randrange(count)
    stride = max(1, round(count * _GOLDEN) + rng.randrange(max(1, count // 100)))
    while math.gcd(stride, count) != 1:
        stride += 1
    return ((start + step * stride) % count for step in range(count))
