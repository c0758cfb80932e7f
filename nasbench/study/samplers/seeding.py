"""The first plans of a study: the bare backbone, then one module at a time, cheap ones first and spread."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nasbench.library.plan import Plan
from nasbench.measurement.properties.record import measured, recorded
from nasbench.spaces import ResolvedSpace

__all__ = ["FIRST_PLANS", "initial_plans"]

FIRST_PLANS = 6
"""Plans a study begins with, the bare backbone among them: a quarter of the default budget.

It is the same for any budget, so that a study that is extended is the study that was long from the start.
"""


def initial_plans(
    space: ResolvedSpace, known: Callable[[Plan], Mapping[str, Any] | None], most: int = FIRST_PLANS
) -> list[Plan]:
    """Return the plans a study should begin with: what each module does alone.

    After the bare backbone each next plan has the module used least so far, in the slot used least, with the properties
    met least; of those that are equal there the cheapest comes first. So a short beginning is spread over all of them.

    Args:
        space: The space; only its own plans are returned.
        known: What is known of a plan before it is evaluated; None where it cannot be built.
        most: How many are wanted.
    """
    costs = {plan: row for plan in _singles(space) if (row := known(plan)) is not None}
    left = sorted(costs, key=lambda plan: (_size(costs[plan]), plan.text))
    bare = Plan({})
    chosen = [bare] if space.params(bare) is not None else []
    used: Counter[str] = Counter()
    while left and len(chosen) < most:
        best = min(left, key=lambda plan: _wear(plan, used))
        left.remove(best)
        chosen.append(best)
        used.update(itertools.chain(*_kinds(best)))
    return chosen[:most]


def _singles(space: ResolvedSpace) -> Iterator[Plan]:
    """Yield the plans of the space with one variant in one slot."""
    for slot in space.slots:
        for variant in slot.variants:
            plan = Plan({slot.slot: variant})
            if not plan.is_bare and space.params(plan) is not None and plan in space:
                yield plan


def _size(costs: Mapping[str, Any]) -> float:
    """Return what a plan costs over all its known costs, each on a log scale."""
    return sum(math.log1p(abs(value)) for value in costs.values() if isinstance(value, (int, float)))


def _kinds(plan: Plan) -> tuple[list[str], list[str], list[str]]:
    """Return a single's module, slot and properties."""
    ((slot, expression),) = plan.items()
    names = [leaf.name for leaf in expression.leaves()]
    found = [recorded(name) for name in names]
    properties = [p for figures in found if figures is not None for p in measured(figures)]
    return [f"module {name}" for name in names], [f"slot {slot}"], [f"property {name}" for name in properties]


def _wear(plan: Plan, used: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sum(used[kind] for kind in kinds) for kinds in _kinds(plan))
