"""What a sampler knows before any plan is evaluated: the space, known costs, constraints, and features of plans."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.atlas_prior import Expected
from nasbench.library.expression import NONE
from nasbench.library.plan import Plan
from nasbench.objectives import COSTS, Constraint
from nasbench.spaces import GivenPlans, ResolvedSpace
from nasbench.study.evaluators.base import Evaluator
from nasbench.study.samplers.features import MAX_REMEMBERED, Features
from nasbench.study.samplers.gaussian import Hyper
from nasbench.study.samplers.leaning import Leaning
from nasbench.study.samplers.scales import Scale
from nasbench.study.samplers.seeding import fills, initial_plans, singles

__all__ = ["Knowledge", "known_before", "nothing_breaks", "nothing_known", "stream"]

FloatArray = NDArray[np.float64]

MAX_LISTED = 1_000
"""A space with at most this number of plans is listed completely. From a larger space, plans are drawn."""

_FEW_DRAWS = 64
"""Number of draws before a space that can be listed is listed to find a plan that breaks no constraint."""

MAX_DRAWN = 1_000
"""Number of distinct plans that are drawn from a larger space to find one that breaks no constraint."""

NEAR_ALLOWED = 8
"""Number of neighbours of each evaluated plan that are drawn if none of `MAX_DRAWN` plans breaks no constraint."""

SAMPLE = 256
"""Number of plans that are drawn once for each study. The range of the costs and the scale of the features depend on
them."""


def nothing_known(plan: Plan) -> Mapping[str, Any]:
    """Return no values. This is the default, for an evaluator that knows nothing about a plan before its evaluation."""
    return {}


def nothing_breaks(known: Mapping[str, Any]) -> bool:
    """Return False, because no constraint is broken. This is the default, for a search without constraints."""
    return False


def known_before(evaluator: Evaluator) -> Callable[[Plan], Mapping[str, Any] | None]:
    """Return a function that returns what is known of a plan before evaluation, or None if its evaluation will fail.

    It will fail if the plan cannot be built, or if a user's function `known` fails for it.
    """

    def known(plan: Plan) -> Mapping[str, Any] | None:
        try:
            return evaluator.known(plan)
        # The code of a module, or a user's function, can raise any error. It raises the error again in the evaluation
        # of the plan, which records it.
        except (Exception, SystemExit):
            return None

    return known


def stream(*parts: object) -> random.Random:
    """Return the random stream for this combination of parts. The stream is the same on every machine."""
    # the seed is a string, because Python hashes it with SHA-512; the result of `hash` would differ between processes
    return random.Random("-".join(str(part) for part in parts))


@dataclass(frozen=True)
class _Facts:
    """What is known of a plan before its evaluation.

    Attributes:
        costs: The known objectives, as `Knowledge.costs` returns them.
        some: The values of objectives that are known for some plans only, by name.
        allowed: Whether the plan can be proposed.
    """

    costs: FloatArray
    some: Mapping[str, float]
    allowed: bool


@dataclass
class Knowledge:
    """The knowledge of a space before any plan is evaluated. A search uses one object, which caches results.

    Attributes:
        space: The space of the plans.
        directions: The objectives, each to "maximize" or "minimize".
        hypers: Hyper-parameters that were fitted to some data, by these data. They only save time.
        known: Returns the exactly known values of a plan by name, or None if its evaluation will fail.
        breaks: Returns whether the values that `known` returns break a constraint.
        seed: The study's seed.
        bounds: The constraints of the search.
        repeats: Values of further trainings of plans with other seeds, by plan: one mapping from name to value each.
        expected: The effect that is expected of each module on the metric, by name. Empty if nothing is expected.
    """

    space: ResolvedSpace
    directions: Mapping[str, str]
    known: Callable[[Plan], Mapping[str, Any] | None] = nothing_known
    breaks: Callable[[Mapping[str, Any]], bool] = nothing_breaks
    seed: int = 0
    bounds: Sequence[Constraint] = ()
    repeats: Mapping[Plan, Sequence[Mapping[str, Any]]] = field(default_factory=dict, repr=False)
    expected: Mapping[str, Expected] = field(default_factory=dict, repr=False)
    hypers: dict[Any, Hyper] = field(default_factory=dict, repr=False)
    _plans: dict[tuple[str, ...], Plan] = field(default_factory=dict, repr=False)
    _facts: dict[Plan, _Facts | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        space: ResolvedSpace,
        directions: Mapping[str, str],
        evaluator: Evaluator,
        seed: int,
        expected: Mapping[str, Expected] | None = None,
    ) -> Knowledge:
        """Return the knowledge of an evaluator about the plans of a space.

        Args:
            space: The space of the plans.
            directions: The objectives, each to "maximize" or "minimize".
            evaluator: The evaluator of the plans.
            seed: The study's seed.
            expected: The effect that is expected of each module, by name.
        """
        known = known_before(evaluator)
        bare = known(Plan({})) or {}
        # a relative bound cannot be checked before evaluation if the value of the bare backbone is not known
        bounds = [bound for bound in evaluator.constraints if bound.name in bare or not bound.relative]

        def breaks(row: Mapping[str, Any]) -> bool:
            return any(bound.name in row and not bound.holds(row[bound.name], bare) for bound in bounds)

        return cls(space, directions, known, breaks, seed, tuple(evaluator.constraints), expected=expected or {})

    def first_plans(self) -> list[Plan]:
        """Return the plans with which a study begins. If the space is a list of plans, these are all of them.

        Plans that are chosen here, and not listed, break no constraint on known costs.
        """
        if isinstance(self.space, GivenPlans):
            return list(self.space.plans)
        return initial_plans(self.space, lambda plan: self.known(plan) if self.allowed(plan) else None)

    def refusal(self) -> str:
        """Return which constraint every plan breaks, apart from the bare backbone. "" if a plan keeps all of them.

        Of a space that is too large to be listed, `MAX_DRAWN` plans are drawn. Then the plans with one variant in one
        slot or in all slots are tried, and then better and better neighbours of the best of them (`haven`). Only
        constraints on values that are known before an evaluation are checked.
        """
        if not self.bounds or isinstance(self.space, GivenPlans):
            return ""
        tried: dict[Plan, None] = {}
        for plan in self._candidates():
            if not plan.is_bare:
                if self.allowed(plan):
                    return ""
                tried[plan] = None
        if self.haven is not None:
            return ""
        tried |= dict.fromkeys(self._descent)
        known = [told for plan in tried if (told := self.known(plan)) is not None]
        if not known:  # no plan can be evaluated, which is no fault of the constraints
            return ""
        bare = self.known(Plan({})) or {}
        whole = self.listed is not None
        none = "no plan of the space keeps" if whole else f"none of {len(tried):,} plans that were tried keeps"
        for bound in self.bounds:
            values = [told[bound.name] for told in known if bound.name in told]
            if len(values) == len(known) and (bound.name in bare or not bound.relative):
                best, word = (min(values), "least") if bound.operator.startswith("<") else (max(values), "most")
                if not bound.holds(best, bare):
                    return f"{none} {bound} (the {word} is {best:.6g})"
        return f"{none} all of {', '.join(map(str, self.bounds))}"

    def _candidates(self) -> Iterator[Plan]:
        """Yield every plan of a space that can be listed, otherwise drawn plans and then those with one variant."""
        if self.listed is not None:
            yield from self.listed
            return
        rng = stream(self.seed, "constraints")
        yield from (self.space.sample(rng) for _ in range(MAX_DRAWN))
        yield from singles(self.space)
        yield from fills(self.space)

    @cached_property
    def haven(self) -> Plan | None:
        """The end of the descent from the drawn plans to one that breaks no known constraint. None if it breaks one."""
        end = self._descent[-1] if self._descent else None
        return end if end is not None and self.allowed(end) else None

    @cached_property
    def _descent(self) -> list[Plan]:
        """Plans that break known constraints less and less, each a neighbour of the one before."""
        steps = [min(self._candidates(), key=self._excess)]
        while (excess := self._excess(steps[-1])) > 0.0:
            best = min(self.space.neighbours(steps[-1]), key=self._excess, default=steps[-1])
            if self._excess(best) >= excess:
                break
            steps.append(best)
        return steps

    def _excess(self, plan: Plan) -> float:
        """Return how far the known values of a plan are beyond the constraints, in shares of the limits."""
        known, bare = self.known(plan), self.known(Plan({})) or {}
        if known is None or plan.is_bare:
            return math.inf
        beyond = 0.0
        for bound in self.bounds:
            if bound.name in known and (bound.name in bare or not bound.relative):
                limit, value = bound.limit(bare), float(known[bound.name])
                if not bound.holds(value, bare):
                    beyond += abs(value - limit) / (abs(limit) or 1.0) + 1e-9  # `<` is broken at the limit too
        return beyond

    def unseen(self, seen: Iterable[str], rng: random.Random, around: Iterable[Plan] = ()) -> Plan | None:
        """Draw a plan uniformly from those that were not seen and break no known constraint.

        If such plans are so rare that `MAX_DRAWN` draws do not find one, all plans of a small space are listed. In a
        large space, `haven` and neighbours of it and of `around` are tried, in a random order.

        Args:
            seen: Hashes of the plans that were seen.
            rng: The random stream.
            around: Evaluated plans. Those that break a constraint are left out.

        Returns:
            The plan. None if none was found.
        """
        hashes = set(seen)
        for drawn in range(MAX_DRAWN):
            if drawn >= _FEW_DRAWS and self.listed is not None:
                listed = [plan for plan in self.listed if plan.hash not in hashes and self.allowed(plan)]
                return rng.choice(listed) if listed else None
            plan = self.space.sample_unseen(rng, hashes)
            if plan is None or self.allowed(plan):
                return plan
            hashes.add(plan.hash)
        if self.haven is not None and self.haven.hash not in hashes:
            return self.haven
        around = around if self.haven is None else (self.haven, *around)
        allowed = [plan for plan in dict.fromkeys(around) if self.allowed(plan)]
        for plan in rng.sample(allowed, len(allowed)):
            for near in self.near(plan, rng, NEAR_ALLOWED):
                if near.hash not in hashes and self.allowed(near):
                    return near
        return None

    # -- plans -------------------------------------------------------------------------------------------------

    def plan(self, params: Mapping[str, str]) -> Plan:
        """Return the plan for values of the space's parameters."""
        key = tuple(params[name] for name in self.space.parameters)
        if key not in self._plans:
            self._plans[key] = self.space.plan(params)
        return self._plans[key]

    def allowed(self, plan: Plan) -> bool:
        """Whether a plan can probably be evaluated and its known values break no constraint."""
        facts = self._look(plan)
        return facts is not None and facts.allowed

    @cached_property
    def sample(self) -> list[Plan]:
        """Plans drawn uniformly from those that can be evaluated. The same for every proposal of a study."""
        return [plan for plan, known in self._drawn if known is not None]

    @cached_property
    def _drawn(self) -> list[tuple[Plan, Mapping[str, Any] | None]]:
        rng = stream(self.seed, "sample")
        drawn = (self.space.sample(rng) for _ in range(SAMPLE))
        return [(plan, self.known(plan)) for plan in drawn]

    @cached_property
    def listed(self) -> list[Plan] | None:
        """All plans of the space in order of their numbers. None if there are too many to list."""
        return list(self.space) if self.space.count <= MAX_LISTED else None

    def near(self, plan: Plan, rng: random.Random, most: int) -> list[Plan]:
        """Draw at most `most` distinct neighbours of a plan. Each draw changes the expression of one choice."""
        drawn: dict[Plan, None] = {}
        for _ in range(most):
            choices, slots = rng.choice(self.space.served)
            others = choices.combinations.neighbours(plan.get(slots[0], NONE))
            neighbour = Plan({**plan, **dict.fromkeys(slots, rng.choice(others))}) if others else plan
            if neighbour != plan and neighbour in self.space:
                drawn[neighbour] = None
        return list(drawn)

    @cached_property
    def features(self) -> Features:
        """The features of plans."""
        return Features(self.space, self.sample, self.costs)

    @cached_property
    def leaning(self) -> Leaning | None:
        """How to lean on the expected effects of modules. None if nothing is expected of the modules of the space."""
        if not self.expected:
            return None
        leaning = Leaning(self.expected, self.sample)
        return leaning if leaning.start > 0.0 else None

    @cached_property
    def metric(self) -> str | None:
        """The first objective that is no cost. None if all are costs."""
        return next((name for name in self.directions if name not in COSTS), None)

    # -- objectives --------------------------------------------------------------------------------------------

    @cached_property
    def known_names(self) -> tuple[str, ...]:
        """Names of the objectives that are known, for every drawn plan, before the plan is evaluated."""
        return tuple(name for name in self.directions if name in self._told)

    @cached_property
    def _told(self) -> set[str]:
        """The names whose values are known for every drawn plan that can be evaluated."""
        # only calls of `known` show which names it returns, so the names are those of a sample of plans
        tells = [set(known) for _, known in self._drawn if known is not None]
        return set.intersection(*tells) if tells else set()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The objectives, then the other names on which there are bounds that are not known before an evaluation."""
        others = dict.fromkeys(bound.name for bound in self.bounds)
        return (*self.directions, *(name for name in others if name not in self.directions and name not in self._told))

    @cached_property
    def _known_scales(self) -> dict[str, Scale]:
        """The scales of the known objectives, chosen with a sample of plans."""
        rows = [known for _, known in self._drawn if known is not None]
        return {
            name: Scale.of_cost(np.array([float(row[name]) for row in rows]), self._sign(name))
            for name in self.known_names
        }

    def _sign(self, name: str) -> float:
        return -1.0 if self.directions.get(name) == "maximize" else 1.0

    def scales(self, values: FloatArray) -> list[Scale]:
        """Return the scale of each of `names`.

        Args:
            values: Values of evaluated plans, `(n, k)`, for the first k of `names`. The scale of a cost that is not
                known before an evaluation is chosen with these. nan is left out.
        """
        scales = []
        for name, column in zip(self.names, values.T, strict=False):
            if name in self._known_scales:
                scales.append(self._known_scales[name])
            elif name in COSTS:
                scales.append(Scale.of_cost(column[np.isfinite(column)], self._sign(name)))
            else:
                scales.append(Scale(self._sign(name)))
        return scales

    def scaled(self, values: FloatArray) -> FloatArray:
        """Return objectives `(n, m)` on the modelled scales (`scales`), where smaller is better."""
        values = np.array(values, dtype=float).reshape(-1, len(self.directions))
        scales = self.scales(values)
        return np.stack([scale(column) for scale, column in zip(scales, values.T, strict=True)], axis=1)

    def keeps_bounds(self, values: Mapping[str, Any], bare: Mapping[str, Any]) -> bool:
        """Whether values of a plan break no bound. Bounds on values that are missing are not checked.

        Args:
            values: Values of the plan, by name.
            bare: Values of the bare backbone, to which relative bounds refer.
        """
        return all(
            bound.holds(values[bound.name], bare)
            for bound in self.bounds
            if bound.name in values and (bound.name in bare or not bound.relative)
        )

    def costs(self, plan: Plan) -> FloatArray:
        """Return the known objectives of a plan, in the order of `known_names`, on the scale of `scaled`.

        Args:
            plan: Any plan. All results are nan if the plan cannot be evaluated, and so is a value that is not known of
                this plan.
        """
        facts = self._look(plan)
        return np.full(len(self.known_names), np.nan) if facts is None else facts.costs

    def some(self, plan: Plan) -> Mapping[str, float]:
        """Return those known values of a plan that are known for some plans only, for each of `names`."""
        facts = self._look(plan)
        return {} if facts is None else facts.some

    def _look(self, plan: Plan) -> _Facts | None:
        if plan not in self._facts:
            if len(self._facts) >= MAX_REMEMBERED:
                self._facts.clear()
            known = self.known(plan)
            if known is None:
                self._facts[plan] = None
            else:
                some = {name: float(known[name]) for name in self.names if name in known and name not in self._told}
                self._facts[plan] = _Facts(self._scaled_costs(known), some, not self.breaks(known))
        return self._facts[plan]

    def _scaled_costs(self, known: Mapping[str, Any]) -> FloatArray:
        return np.array([float(self._known_scales[name](known.get(name, np.nan))) for name in self.known_names])
