"""The first plans of a study: the bare backbone, then plans with one expression, for many modules and slots."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nasbench.library.plan import Plan
from nasbench.measurement.properties.record import measured, recorded
from nasbench.spaces import ResolvedSpace

__all__ = ["FIRST_PLANS", "fills", "initial_plans", "singles"]

FIRST_PLANS = 6
"""Number of plans with which a study begins, including the bare backbone. It is a quarter of the default budget.

This number does not depend on the budget of the study. So a study whose budget is increased later has the same trials
as a study that had the larger budget from the start.
"""


def initial_plans(
    space: ResolvedSpace, known: Callable[[Plan], Mapping[str, Any] | None], most: int = FIRST_PLANS
) -> list[Plan]:
    """Return the plans with which a study should begin. They show the effects of single expressions.

    After the bare backbone, each next plan has one expression, and its modules have the smallest number of uses in the
    plans so far. Ties are broken by the uses of its slots, then by those of its measured properties, then by its cost
    (`_size`). So even a few plans cover several modules and slots.

    Args:
        space: The space. All returned plans belong to it.
        known: Returns the values of a plan that are known before its evaluation, or None if its model cannot be built.
        most: Largest number of plans.
    """
    costs = {plan: row for plan in singles(space) if (row := known(plan)) is not None}
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


def singles(space: ResolvedSpace) -> Iterator[Plan]:
    """Yield the plans with a variant in only one slot, or in only one group of slots that share a choice."""
    for choices, slots in space.served:
        for variant in choices.variants:
            plan = Plan(dict.fromkeys(slots, variant))
            if not plan.is_bare and space.params(plan) is not None and plan in space:
                yield plan


def fills(space: ResolvedSpace) -> Iterator[Plan]:
    """Yield the plans with one variant in every slot that has it."""
    for variant in dict.fromkeys(variant for choices, _ in space.served for variant in choices.variants):
        plan = Plan({slot: variant for choices, slots in space.served if variant in choices.variants for slot in slots})
        if not plan.is_bare and space.params(plan) is not None and plan in space:
            yield plan


def _size(costs: Mapping[str, Any]) -> float:
    """Return one number for the cost of a plan: the sum of the logarithms of its known costs."""
    return sum(math.log1p(abs(value)) for value in costs.values() if isinstance(value, (int, float)))


def _kinds(plan: Plan) -> tuple[list[str], ...]:
    """Return the modules, the slots and the measured properties of a plan that has one expression."""
    expression = next(iter(plan.values()))
    names = [leaf.name for leaf in expression.leaves()]
    records = [recorded(name) for name in names]
    properties = [p for record in records if record is not None for p in measured(record)]
    kinds = {"module": names, "slot": list(plan), "property": properties}
    return tuple([f"{kind} {name}" for name in of_kind] for kind, of_kind in kinds.items())


def _uses(plan: Plan, used: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sum(used[kind] for kind in kinds) for kinds in _kinds(plan))
