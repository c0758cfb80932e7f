"""What a sampler may know of plans before any is evaluated."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasbench.errors import InputError
from nasbench.library.expression import NONE
from nasbench.library.plan import Plan
from nasbench.objectives import COSTS
from nasbench.spaces import ResolvedSpace
from nasbench.study.evaluators.base import Evaluator
from nasbench.study.samplers.features import Features
from nasbench.study.samplers.seeding import initial_plans

__all__ = ["Knowledge", "known_before", "nothing_breaks", "nothing_known", "stream"]

FloatArray = NDArray[np.float64]

MAX_LISTED = 1_000
"""Plans of a space that is listed; a larger one is drawn from."""

_LEAST = 1e-300
"""What a cost that is not positive counts as on a log scale."""

MAX_REMEMBERED = 20_000
"""Plans whose costs are remembered."""

SAMPLE = 256
"""Plans drawn once a study, for the bounds of the costs and the scale of the features."""


def nothing_known(plan: Plan) -> Mapping[str, Any]:
    """Say that nothing is known of a plan before it is evaluated."""
    return {}


def nothing_breaks(known: Mapping[str, Any]) -> bool:
    """Say that no constraint is broken."""
    return False


def known_before(evaluator: Evaluator) -> Callable[[Plan], Mapping[str, Any] | None]:
    """Return a function that gives what an evaluator knows of a plan beforehand; None where it cannot be built."""

    def known(plan: Plan) -> Mapping[str, Any] | None:
        try:
            return evaluator.known(plan)
        except InputError:
            return None

    return known


def stream(*parts: object) -> random.Random:
    """Return a random stream of its own for each combination of parts, the same on every machine."""
    return random.Random("-".join(str(part) for part in parts))


@dataclass(frozen=True)
class _Facts:
    """What is known of a plan: its known objectives as `Knowledge.costs` returns them, whether it may be proposed."""

    costs: FloatArray
    allowed: bool


@dataclass
class Knowledge:
    """What is known of a space before anything was evaluated. One for a whole search: it remembers what it read.

    Attributes:
        space: The space that plans come from.
        directions: Objectives, to "maximize" or "minimize".
        known: Gives what is exactly known of a plan before it is evaluated, by name; None where it cannot be built.
        breaks: Whether what `known` gave breaks a constraint.
        seed: The study's seed.
    """

    space: ResolvedSpace
    directions: Mapping[str, str]
    known: Callable[[Plan], Mapping[str, Any] | None] = nothing_known
    breaks: Callable[[Mapping[str, Any]], bool] = nothing_breaks
    seed: int = 0
    _plans: dict[tuple[str, ...], Plan] = field(default_factory=dict, repr=False)
    _facts: dict[Plan, _Facts | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, space: ResolvedSpace, directions: Mapping[str, str], evaluator: Evaluator, seed: int) -> Knowledge:
        """Return what an evaluator of plans knows before it evaluates them.

        Args:
            space: The space that plans come from.
            directions: Objectives, to "maximize" or "minimize".
            evaluator: What evaluates the plans.
            seed: The study's seed.
        """
        known = known_before(evaluator)
        bare = known(Plan({})) or {}
        bounds = [bound for bound in evaluator.constraints if bound.name in bare or not bound.relative]

        def breaks(row: Mapping[str, Any]) -> bool:
            return any(bound.name in row and not bound.holds(row[bound.name], bare) for bound in bounds)

        return cls(space, directions, known, breaks, seed)

    def first_plans(self) -> list[Plan]:
        """Return the plans that a study of this space begins with; none of them breaks a constraint on its costs."""
        return initial_plans(self.space, lambda plan: self.known(plan) if self.allowed(plan) else None)

    # -- plans -------------------------------------------------------------------------------------------------

    def plan(self, params: Mapping[str, str]) -> Plan:
        """Return the plan of one setting of the space's parameters."""
        key = tuple(params[name] for name in self.space.parameters)
        if key not in self._plans:
            self._plans[key] = self.space.plan(params)
        return self._plans[key]

    def allowed(self, plan: Plan) -> bool:
        """Whether a plan can be built, as far as is known, and breaks no constraint on its costs."""
        facts = self._look(plan)
        return facts is not None and facts.allowed

    @cached_property
    def sample(self) -> list[Plan]:
        """Plans drawn uniformly from the space that can be built, the same for every proposal of a study."""
        return [plan for plan, known in self._drawn if self._tells(known)]

    @cached_property
    def _drawn(self) -> list[tuple[Plan, Mapping[str, Any] | None]]:
        rng = stream(self.seed, "sample")
        drawn = (self.space.sample(rng) for _ in range(SAMPLE))
        return [(plan, self.known(plan)) for plan in drawn]

    def _tells(self, known: Mapping[str, Any] | None) -> bool:
        """Whether what is known of a plan has every objective that is known of any."""
        return known is not None and all(name in known for name in self.known_names)

    @cached_property
    def listed(self) -> list[Plan] | None:
        """All plans by number; None where there are too many to list."""
        return list(self.space) if self.space.count <= MAX_LISTED else None

    def near(self, plan: Plan, rng: random.Random, most: int) -> list[Plan]:
        """Draw up to `most` distinct neighbours of a plan of the space: a slot uniformly, then another choice there."""
        found: dict[Plan, None] = {}
        for _ in range(most):
            slot, combinations = rng.choice(self._combinations)
            others = combinations.neighbours(plan.get(slot, NONE))
            neighbour = Plan({**plan, slot: rng.choice(others)}) if others else plan
            if neighbour != plan and neighbour in self.space:
                found[neighbour] = None
        return list(found)

    @cached_property
    def _combinations(self) -> list[tuple[str, Any]]:
        return [(slot.slot, slot.combinations) for slot in self.space.slots]

    @cached_property
    def features(self) -> Features:
        """The features of plans."""
        return Features(self.space, self.sample, self.costs)

    # -- objectives --------------------------------------------------------------------------------------------

    @cached_property
    def known_names(self) -> tuple[str, ...]:
        """The objectives that are known before a plan is evaluated."""
        told = {name for _, known in self._drawn for name in known or {}}
        return tuple(name for name in self.directions if name in told)

    @cached_property
    def logarithmic(self) -> frozenset[str]:
        """The objectives that are put on a log scale: costs, and what is known, where all are positive."""
        rows = [known for _, known in self._drawn if known is not None and self._tells(known)]
        return frozenset(
            name
            for name in self.directions
            if (name in self.known_names and all(row[name] > 0 for row in rows))
            or (name in COSTS and name not in self.known_names)
        )

    def scaled(self, values: FloatArray) -> FloatArray:
        """Return objectives, `(n, m)`, minimised and with costs on a log scale: smaller is better."""
        values = np.array(values, dtype=float).reshape(-1, len(self.directions))
        for column, (name, direction) in enumerate(self.directions.items()):
            if name in self.logarithmic:
                values[:, column] = np.log(np.maximum(values[:, column], _LEAST))
            if direction == "maximize":
                values[:, column] *= -1.0
        return values

    def costs(self, plan: Plan) -> FloatArray:
        """Return the known objectives of a plan, in order, on the scale that `scaled` gives; nan if it cannot be built.

        Args:
            plan: Any plan.
        """
        facts = self._look(plan)
        return np.full(len(self.known_names), np.nan) if facts is None else facts.costs

    def _look(self, plan: Plan) -> _Facts | None:
        if plan not in self._facts:
            if len(self._facts) >= MAX_REMEMBERED:
                self._facts.clear()
            known = self.known(plan)
            if known is None or not self._tells(known):
                self._facts[plan] = None
            else:
                self._facts[plan] = _Facts(self._scaled_costs(known), not self.breaks(known))
        return self._facts[plan]

    def _scaled_costs(self, known: Mapping[str, Any]) -> FloatArray:
        row = np.array([float(known.get(name, np.nan)) for name in self.directions])
        return self.scaled(row)[0, [name in self.known_names for name in self.directions]]
