"""Proposes plans that are drawn uniformly."""

from __future__ import annotations

import random

from nasbench.library.plan import Plan
from nasbench.study.samplers._base import PlanSampler
from nasbench.study.samplers.history import History

__all__ = ["UniformSampler"]


class UniformSampler(PlanSampler):
    """Draws every plan uniformly from the unseen plans that break no known constraint.

    A plan is drawn as a whole. If the parameters of a space were drawn, slots would be empty too often, because several
    values of the parameters stand for an empty slot.
    """

    def propose(self, history: History, rng: random.Random) -> Plan | None:
        """Return None, so that a plan is drawn."""
        return None
