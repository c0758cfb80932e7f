"""The distinct plans over the slots of one backbone: counted, numbered, drawn and varied."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping
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
    """The plans that the choices at some slots give and a rule admits.

    The set can be used in two ways. A sampler sees the parameters: flat categorical choices, all of which are always
    set, without conditionals. Other code sees the distinct plans. Without quotas and unions every setting of the
    parameters gives a plan of the set. With them a setting can give a plan outside the set, which `plan in plans`
    tells.

    Attributes:
        slots: The choices, slot by slot in network order.
        rule: The rule that admits plans.
    """

    slots: tuple[SlotChoices, ...]
    rule: Rule = field(repr=False)

    @cached_property
    def parameters(self) -> dict[str, tuple[str, ...]]:
        """All categorical choices in slot order, which are the flat space that a sampler sees."""
        return {name: choices for slot in self.slots for name, choices in slot.parameters.items()}

    def plan(self, params: Mapping[str, str]) -> Plan:
        """Return the plan of one setting of the parameters. It may lie outside the set."""
        return Plan({slot.slot: slot.expression(params) for slot in self.slots})

    def params(self, plan: Plan) -> dict[str, str] | None:
        """Return one setting of the parameters that gives `plan`, or None if there is none.

        A plan outside the set may have a setting too, for instance the bare backbone if a quota excludes it.
        """
        if set(plan) - {slot.slot for slot in self.slots}:
            return None
        settings: dict[str, str] = {}
        for slot in self.slots:
            setting = slot.setting(plan.get(slot.slot, NONE))
            if setting is None:
                return None
            settings |= setting
        return settings

    def admits(self, plan: Plan) -> bool:
        """Whether `plan` belongs to the set."""
        return not set(plan) - set(self.rule.slots) and self._table.admits(self._expressions(plan))

    def __contains__(self, plan: object) -> bool:
        return isinstance(plan, Plan) and self.admits(plan)

    @property
    def count(self) -> int:
        """The exact number of distinct plans."""
        return self._table.count

    def at(self, index: int) -> Plan:
        """Return plan number `index`, from 0 to `count` - 1. Equal numbers give equal plans.

        Raises:
            IndexError: If there is no plan of that number.
        """
        return Plan(dict(zip(self.rule.slots, self._table.at(index), strict=True)))

    def __iter__(self) -> Iterator[Plan]:
        """Yield every distinct plan in the order of the numbers."""
        return (self.at(index) for index in range(self.count))

    def sample(self, rng: random.Random) -> Plan:
        """Draw one plan uniformly from the distinct plans."""
        return self.at(rng.randrange(self.count))

    def sample_unseen(self, rng: random.Random, seen: Iterable[str]) -> Plan | None:
        """Draw one plan uniformly from those whose hash is not in `seen`. Return None if all were seen."""
        hashes = seen if isinstance(seen, Collection) else set(seen)
        # While less than half of the plans were seen, rejection takes at most two draws on average, and later more.
        if len(hashes) * 2 < self.count:
            while (plan := self.sample(rng)).hash in hashes:
                pass
            return plan
        unseen = [index for index, each in enumerate(self._hashes) if each not in hashes]
        return self.at(rng.choice(unseen)) if unseen else None

    def neighbours(self, plan: Plan) -> Iterator[Plan]:
        """Yield once each plan of the set that differs from `plan` in one slot by one choice.

        One choice is another variant, or another composition of the same variants. If the new composition has more
        letters, each additional letter may take any variant. A slot can thus also be emptied, filled, or given a
        further module. Neighbours of neighbours include the plan itself. `plan` may lie outside the set.
        """
        for place in self._places(plan):
            for expression in self._replacements(plan, place):
                yield self._with(plan, place, expression)

    @cached_property
    def _table(self) -> PlanTable:
        # A rule may read a slot that has no choices, for instance one that a restriction empties.
        offered = {slot.slot: slot.combinations.expressions for slot in self.slots}
        return PlanTable([(slot, offered.get(slot, (NONE,))) for slot in self.rule.slots], self.rule)

    @cached_property
    def _hashes(self) -> list[str]:
        return [plan.hash for plan in self]

    @cached_property
    def _choices(self) -> dict[str, SlotChoices]:
        return {slot.slot: slot for slot in self.slots}

    def _expressions(self, plan: Plan) -> list[Expression]:
        return [plan.get(slot, NONE) for slot in self.rule.slots]

    def _places(self, plan: Plan) -> list[int]:
        """Return the places of the rule's slots that can change, or none if the plan fills a slot no rule reads."""
        known = self.rule.slots
        return [] if set(plan) - set(known) else [i for i, slot in enumerate(known) if slot in self._choices]

    def _replacements(self, plan: Plan, place: int) -> list[Expression]:
        expressions = self._expressions(plan)
        near = self._choices[self.rule.slots[place]].combinations.neighbours(expressions[place])
        return self._table.replacements(expressions, place, near)

    def _with(self, plan: Plan, place: int, expression: Expression) -> Plan:
        return Plan({**plan, self.rule.slots[place]: expression})
