"""The first plans of a study: the bare backbone, then single modules that cover modules, slots and properties."""

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
"""Number of plans that a study begins with, including the bare backbone. It is a quarter of the default budget.

It does not depend on the study's own budget. So a study that is extended later has the same trials as a study with the
larger budget from the start.
"""


def initial_plans(
    space: ResolvedSpace, known: Callable[[Plan], Mapping[str, Any] | None], most: int = FIRST_PLANS
) -> list[Plan]:
    """Return the plans that a study should begin with. They show the effect of single modules.

    After the bare backbone, each plan has the module used least so far, then the slot used least, then the properties
    used least. The cheapest of equal candidates comes first. So even a few plans cover several modules and slots.

    Args:
        space: The space. Only plans of it are returned.
        known: Returns the known values of a plan before its evaluation, or None if it cannot be built.
        most: Largest number of plans.
    """
    costs = {plan: row for plan in _singles(space) if (row := known(plan)) is not None}
    left = sorted(costs, key=lambda plan: (_size(costs[plan]), plan.text))
    bare = Plan({})
    chosen = [bare] if space.params(bare) is not None else []
    used: Counter[str] = Counter()
    while left and len(chosen) < most:
        best = min(left, key=lambda plan: _uses(plan, used))
        left.remove(best)
        chosen.append(best)
        used.update(itertools.chain(*_kinds(best)))
    return chosen[:most]


def _singles(space: ResolvedSpace) -> Iterator[Plan]:
    """Yield the plans of the space with one variant in one slot, or in a group of slots with the same expression."""
    for choices, slots in space.served:
        for variant in choices.variants:
            plan = Plan(dict.fromkeys(slots, variant))
            if not plan.is_bare and space.params(plan) is not None and plan in space:
                yield plan


def _size(costs: Mapping[str, Any]) -> float:
    """Return one number for the size of a plan: the sum of its known costs, each on a log scale."""
    return sum(math.log1p(abs(value)) for value in costs.values() if isinstance(value, (int, float)))


def _kinds(plan: Plan) -> tuple[list[str], ...]:
    """Return the modules, the slots and the properties of a plan with one expression."""
    expression = next(iter(plan.values()))
    names = [leaf.name for leaf in expression.leaves()]
    records = [recorded(name) for name in names]
    properties = [p for record in records if record is not None for p in measured(record)]
    kinds = {"module": names, "slot": list(plan), "property": properties}
    return tuple([f"{kind} {name}" for name in of_kind] for kind, of_kind in kinds.items())


def _uses(plan: Plan, used: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sum(used[kind] for kind in kinds) for kinds in _kinds(plan))
