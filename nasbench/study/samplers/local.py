"""Multi-objective local search: proposes a plan that differs by one choice from a plan on the Pareto front."""

from __future__ import annotations

import random

import moocore

from nasbench.library.plan import Plan
from nasbench.study.samplers._base import PlanSampler
from nasbench.study.samplers.history import History

__all__ = ["LocalSampler"]


class LocalSampler(PlanSampler):
    """Draws a plan uniformly from the current front, then proposes one of the plan's unseen neighbours.

    If every neighbour of the front was seen, the search restarts: the next plan is drawn uniformly from the unseen
    plans.

    Sources:
        Paquete et al., "Pareto local optimum sets in the biobjective traveling salesman problem", in Metaheuristics for
        Multiobjective Optimisation, 2004.
        White et al., "Exploring the loss landscape in neural architecture search", UAI 2021, arXiv:2005.02960.
    """

    def propose(self, history: History, rng: random.Random) -> Plan | None:
        """Return an unseen neighbour of a plan on the front that breaks no known constraint. None if none is left."""
        if not len(history.plans):
            return None
        undominated = moocore.is_nondominated(history.values, keep_weakly=True)
        front = [plan for plan, on_front in zip(history.plans, undominated, strict=True) if on_front]
        rng.shuffle(front)
        for plan in front:
            near = [
                n for n in self.knowledge.space.neighbours(plan) if n not in history.seen and self.knowledge.allowed(n)
            ]
            if near:
                return rng.choice(near)
        return None
