"""The default sampler: cost-aware Bayesian optimisation. It never proposes a plan twice.

A Gaussian process predicts each objective that is not known before evaluation from the features of a plan. Known costs
are used exactly. Rejected and failed plans inform the processes of bounded values and of success. The sampler makes a
pool of unseen plans: uniform draws, and neighbours of plans on the Pareto front. From the plan of the pool with the
largest gain, it climbs to neighbours with a larger gain, and proposes the best plan. The gain is the expected
hypervolume improvement, over the front of the predicted means of the evaluated plans, times the probability that the
evaluation succeeds and breaks no bound.
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
"""Smallest number of complete evaluations for a model. If there are fewer, plans are drawn uniformly."""

UNIFORM, NEAR, CLIMBS = 400, 200, 2
"""Number of uniform draws in the pool, number of neighbours that are drawn, and number of rounds of hill climbing.

The neighbours are drawn in equal numbers for the plans on the front, but at least 4 for each of them. In each round of
hill climbing, as many are drawn for the best plan."""


class AutoSampler(PlanSampler):
    """Cost-aware Bayesian optimisation over plans.

    Sources:
        Emmerich et al., CEC 2011, for the expected hypervolume improvement.
        Kandasamy et al., NeurIPS 2018, arXiv:1802.07191, for Gaussian processes over architectures.
        Ru et al., ICLR 2021, arXiv:2006.07556, for Gaussian processes over architectures.
    """

    def propose(self, history: History, rng: random.Random) -> Plan | None:
        """Return the unseen plan with the largest gain (`Surrogate.gains`).

        None if there are too few evaluations for a model, or if no plan of the pool has a gain above 0.
        """
        values = history.readings.values[:, : len(self.knowledge.directions)]
        if len(values) < START or not np.isfinite(values).any(axis=0).all() or not self.knowledge.sample:
            return None
        surrogate = Surrogate(self.knowledge, history)
        pool, best, most = self.pool(history, surrogate, rng), None, 0.0
        for _ in range(1 + CLIMBS):
            if not pool:
                break
            gains = surrogate.gains(pool)
            top = int(np.argmax(gains))
            if not gains[top] > most:
                break
            best, most = pool[top], float(gains[top])
            # hill climbing: in a large space, the pool contains few neighbours of its best plan
            pool = [] if self.whole else self.fresh(self.knowledge.near(best, rng, NEAR), history)
        return best

    @property
    def whole(self) -> bool:
        """Whether the space is so small that the pool contains all of it."""
        return self.knowledge.listed is not None

    def pool(self, history: History, surrogate: Surrogate, rng: random.Random) -> list[Plan]:
        """Return unseen plans that break no known constraint.

        In a small space, these are all such plans. In a large space, they are uniform draws and neighbours of the
        front. If no plan is feasible yet, the neighbours are those of the evaluated plans with the best chance.
        """
        if self.knowledge.listed is not None:
            return self.fresh(self.knowledge.listed, history)
        drawn = [self.knowledge.space.sample(rng) for _ in range(UNIFORM)]
        if history.plans:
            undominated = moocore.is_nondominated(history.values, keep_weakly=True)
            front = [plan for plan, on_front in zip(history.plans, undominated, strict=True) if on_front]
        else:
            tried = list(dict.fromkeys(history.readings.plans))
            front = [tried[i] for i in np.argsort(-surrogate.chance(tried), kind="stable")[:START]]
        for plan in front:
            drawn += self.knowledge.near(plan, rng, max(NEAR // len(front), 4))
        return self.fresh(drawn, history)

    def fresh(self, plans: list[Plan], history: History) -> list[Plan]:
        """Return the plans that were not seen and break no known constraint, without duplicates."""
        seen = history.seen
        return [plan for plan in dict.fromkeys(plans) if plan not in seen and self.knowledge.allowed(plan)]
