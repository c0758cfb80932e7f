"""The distinct plans over the slots of one backbone. They can be counted, numbered and drawn, and have neighbours."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nasbench.library.expression import NONE, Expression
from nasbench.library.plan import Plan
from nasbench.spaces._choices import SlotChoices
from nasbench.spaces._counting import PlanTable
from nasbench.spaces._rules import Rule

__all__ = ["PlanSet"]


@dataclass(frozen=True)
class PlanSet:
    """The plans that the choices at some slots allow and that a rule admits.

    The set can be used in two ways. A sampler sees the parameters, which are flat categorical choices: all of them are
    always set, and none depends on another. Other code sees the distinct plans. If the space has no quotas and no
    unions, every setting of the parameters gives a plan of the set. Otherwise a setting can give a plan outside the
    set. The test `plan in plans` is True if a plan is in the set.

    Attributes:
        slots: The choices, slot by slot in network order.
        rule: The rule that admits plans.
        same: Groups of slots that always have the same expression, each in network order. Every other slot has its own
            choice.
    """

    slots: tuple[SlotChoices, ...]
    rule: Rule = field(repr=False)
    same: tuple[tuple[str, ...], ...] = field(default=(), kw_only=True)

    @cached_property
    def served(self) -> tuple[tuple[SlotChoices, tuple[str, ...]], ...]:
        """The choices, each with the slots to which the choice applies. A choice is named after the first such slot."""
        groups = {group[0]: group for group in self.same}
        followers = {slot for group in self.same for slot in group[1:]}
        leading = (choices for choices in self.slots if choices.slot not in followers)
        return tuple((choices, groups.get(choices.slot, (choices.slot,))) for choices in leading)

    @cached_property
    def parameters(self) -> dict[str, tuple[str, ...]]:
        """All categorical choices in slot order. This is the flat space that a sampler sees."""
        return {name: values for choices, _ in self.served for name, values in choices.parameters.items()}

    def plan(self, params: Mapping[str, str]) -> Plan:
        """Return the plan that one setting of the parameters gives. This plan can be outside the set."""
        return Plan({slot: e for choices, slots in self.served for e in [choices.expression(params)] for slot in slots})

    def params(self, plan: Plan) -> dict[str, str] | None:
        """Return one setting of the parameters that gives `plan`, or None if there is none.

        A plan outside the set can have a setting too. An example is the bare backbone if a quota excludes it.
        """
        if set(plan) - {slot.slot for slot in self.slots}:
            return None
        settings: dict[str, str] = {}
        for choices, slots in self.served:
            held = {plan.get(slot, NONE) for slot in slots}
            setting = choices.setting(held.pop()) if len(held) == 1 else None
            if setting is None:
                return None
            settings |= setting
        return settings

    def admits(self, plan: Plan) -> bool:
        """Return whether `plan` belongs to the set."""
        return not set(plan) - set(self.rule.slots) and self._table.admits(self._expressions(plan))

    def __contains__(self, plan: object) -> bool:
        return isinstance(plan, Plan) and self.admits(plan)

    @property
    def count(self) -> int:
        """The exact number of distinct plans."""
        return self._table.count

    def at(self, index: int) -> Plan:
        """Return plan number `index`, from 0 to `count` - 1. The same number always gives the same plan.

        Raises:
            IndexError: If there is no plan with this number.
        """
        return Plan(dict(zip(self.rule.slots, self._table.at(index), strict=True)))

    def __iter__(self) -> Iterator[Plan]:
        """Yield every distinct plan, in the order of the numbers."""
        return (self.at(index) for index in range(self.count))

    def sample(self, rng: random.Random) -> Plan:
        """Draw one plan uniformly from the distinct plans."""
        return self.at(rng.randrange(self.count))

    def sample_unseen(self, rng: random.Random, seen: Iterable[str]) -> Plan | None:
        """Draw one plan uniformly from the plans whose hash is not in `seen`. Return None if all were seen."""
        hashes = seen if isinstance(seen, Collection) else set(seen)
        # If less than half of the plans were seen, it takes at most two draws on average until an unseen plan comes.
        if len(hashes) * 2 < self.count:
            while (plan := self.sample(rng)).hash in hashes:
                pass
            return plan
        unseen = [index for index, each in enumerate(self._hashes) if each not in hashes]
        return self.at(rng.choice(unseen)) if unseen else None

    def neighbours(self, plan: Plan) -> Iterator[Plan]:
        """Yield each plan of the set that differs from `plan` by one choice. Each plan is yielded once.

        To differ by one choice means to have another variant, or another composition of the same variants. If the new
        composition has more letters, each additional letter can have any variant. So a slot can also be emptied or
        filled, or get an additional module. A choice that applies to several slots changes all of them. If one plan is
        a neighbour of another, the other is also a neighbour of the first. `plan` can be outside the set.
        """
        if set(plan) - set(self.rule.slots):
            return
        for choices, slots in self.served:
            near = choices.combinations.neighbours(plan.get(slots[0], NONE))
            for expression in self._replacements(plan, slots, near):
                yield Plan({**plan, **dict.fromkeys(slots, expression)})

    @cached_property
    def _table(self) -> PlanTable:
        # A rule can read a slot that has no choices, for instance a slot that a restriction keeps empty.
        offered = {slot.slot: slot.combinations.expressions for slot in self.slots}
        return PlanTable([(slot, offered.get(slot, (NONE,))) for slot in self.rule.slots], self.rule)

    @cached_property
    def _hashes(self) -> list[str]:
        return [plan.hash for plan in self]

    def _expressions(self, plan: Plan) -> list[Expression]:
        return [plan.get(slot, NONE) for slot in self.rule.slots]

    def _replacements(self, plan: Plan, slots: Sequence[str], near: Sequence[Expression]) -> list[Expression]:
        """Return the expressions of `near` that can be put into the given slots, so that the plan stays in the set."""
        if len(slots) == 1:
            return self._table.replacements(self._expressions(plan), self.rule.slots.index(slots[0]), near)
        return [e for e in near if self.admits(Plan({**plan, **dict.fromkeys(slots, e)}))]
