"""The default sampler: models what only training can tell, takes costs as exactly known, never repeats itself.

A Gaussian process on features of the plan models each objective that is not known before evaluation. Of a pool of
unseen plans (uniform draws, neighbours of the front) the one with the largest expected hypervolume improvement is
evaluated next. Costs are on a log scale and enter exactly.
"""

from __future__ import annotations

import random

import moocore
import numpy as np

from nasbench.library.plan import Plan
from nasbench.study.samplers._base import PlanSampler
from nasbench.study.samplers.history import History
from nasbench.study.samplers.surrogate import Surrogate

__all__ = ["AutoSampler"]

START = 4
"""Complete evaluations before which plans are drawn uniformly."""

UNIFORM, NEAR, CLIMBS = 400, 200, 2
"""Plans of the pool: uniform draws, neighbours of the front; and rounds among neighbours of the best found."""


class AutoSampler(PlanSampler):
    """Cost-aware Bayesian optimisation over plans.

    Source: choosing the largest expected hypervolume improvement is Emmerich et al., CEC 2011; Gaussian processes over
    architectures are Kandasamy et al., NeurIPS 2018, arXiv:1802.07191, and Ru et al., ICLR 2021, arXiv:2006.07556.
    """

    def propose(self, history: History, rng: random.Random) -> Plan | None:
        """Return the unseen plan that is expected to add most hypervolume; None where there is nothing to go by."""
        if len(history.plans) < START or not self.knowledge.sample:
            return None
        surrogate = Surrogate(self.knowledge, history)
        pool, best, most = self.pool(history, rng), None, 0.0
        for _ in range(1 + CLIMBS):
            if not pool:
                break
            gains = surrogate.gains(pool)
            top = int(np.argmax(gains))
            if not gains[top] > most:
                break
            best, most = pool[top], float(gains[top])
            pool = [] if self.whole else self.fresh(self.knowledge.near(best, rng, NEAR), history)
        return best

    @property
    def whole(self) -> bool:
        """Whether the space is so small that the pool is all of it."""
        return self.knowledge.listed is not None

    def pool(self, history: History, rng: random.Random) -> list[Plan]:
        """Return unseen plans that break no known constraint: all of a small space, else draws and neighbours."""
        if self.knowledge.listed is not None:
            return self.fresh(self.knowledge.listed, history)
        drawn = [self.knowledge.space.sample(rng) for _ in range(UNIFORM)]
        kept = moocore.is_nondominated(history.values, keep_weakly=True)
        front = [plan for plan, on_front in zip(history.plans, kept, strict=True) if on_front]
        for plan in front:
            drawn += self.knowledge.near(plan, rng, max(NEAR // len(front), 4))
        return self.fresh(drawn, history)

    def fresh(self, plans: list[Plan], history: History) -> list[Plan]:
        """Return those that were not seen and break no known constraint, each once."""
        seen = history.seen
        return [plan for plan in dict.fromkeys(plans) if plan not in seen and self.knowledge.allowed(plan)]
