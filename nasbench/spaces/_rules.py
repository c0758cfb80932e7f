"""Rules that decide, slot by slot in network order, which plans belong to a space.

A rule reads a plan as a finite automaton reads a word. At each slot, the state and the rule's view of the slot's
expression give the next state, or they exclude the plan. If two partial plans are in the same state, they can be
completed in the same ways. So plans can be counted and drawn state by state instead of one by one. Rules can be
combined: there is a rule for each part of a union or a product, and a rule for quotas.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from nasbench.library.expression import NONE, Expression
from nasbench.library.plan import Plan
from nasbench.spaces._choices import SlotChoices
from nasbench.spaces._quotas import Quota, Restriction

__all__ = ["AllOf", "AnyOf", "Chosen", "Counted", "Listed", "Only", "Reached", "Rule", "Same", "SideBySide"]

State = Any
"""A hashable value. None means that the plan is outside the space."""

View = Any
"""What a rule needs to know about an expression: a hashable value. A rule treats expressions with equal views alike."""


class Rule(ABC):
    """A rule that decides which plans belong to a space.

    Attributes:
        slots: The slots that the rule reads, in network order. Every other slot must be empty.
        start: The state before the first slot.
    """

    slots: tuple[str, ...]
    start: State = ()

    @abstractmethod
    def view(self, slot: str, expression: Expression) -> View:
        """Return the view of an expression at a slot, or None if no plan can have the expression in this slot."""

    @abstractmethod
    def step(self, slot: str, state: State, view: View) -> State:
        """Return the state after a slot, or None if no plan with this beginning belongs to the space."""

    def following(self, slot: str, state: State) -> tuple[Expression, ...] | None:
        """Return the expressions that can follow at a slot, or None if there are many."""
        return None


class Chosen(Rule):
    """Every slot has one of its expressions, independently of the other slots.

    Args:
        choices: The choices, slot by slot in network order.
    """

    def __init__(self, choices: Sequence[SlotChoices]) -> None:
        self.slots = tuple(each.slot for each in choices)
        self._choices = {each.slot: each for each in choices}

    def view(self, slot: str, expression: Expression) -> View:
        """Return True if the slot offers the expression."""
        return True if expression in self._choices[slot].combinations else None

    def step(self, slot: str, state: State, view: View) -> State:
        """Return the state unchanged, because the slots are independent."""
        return state


class Same(Rule):
    """Every slot has the same expression.

    The state is the common expression. Before the first slot and after the last slot, it is `()`.

    Args:
        choices: The choices, slot by slot in network order. All slots offer the same expressions.
    """

    def __init__(self, choices: Sequence[SlotChoices]) -> None:
        self.slots = tuple(each.slot for each in choices)
        self._offered = choices[0].combinations

    def view(self, slot: str, expression: Expression) -> View:
        """Return the expression itself, if the slot offers it."""
        return expression if expression in self._offered else None

    def step(self, slot: str, state: State, view: View) -> State:
        """Return the expression that all later slots must have."""
        if slot != self.slots[0] and state != view:
            return None
        return () if slot == self.slots[-1] else view

    def following(self, slot: str, state: State) -> tuple[Expression, ...] | None:
        """Return the expression of the first slot."""
        return None if slot == self.slots[0] else (state,)


class Listed(Rule):
    """The plans of a list.

    The state is the set of listed plans, as numbers, that agree with the plan in all slots so far.

    Args:
        slots: The slots that the plans fill, in network order.
        plans: The plans, without duplicates.
    """

    def __init__(self, slots: tuple[str, ...], plans: Sequence[Plan]) -> None:
        self.slots, self.plans = slots, tuple(plans)
        self.start = frozenset(range(len(plans)))

    def view(self, slot: str, expression: Expression) -> View:
        """Return the numbers of the plans with the expression at the slot."""
        return frozenset(i for i, plan in enumerate(self.plans) if plan.get(slot, NONE) == expression) or None

    def step(self, slot: str, state: State, view: View) -> State:
        """Return the numbers of the plans that still agree."""
        return (state & view) or None

    def following(self, slot: str, state: State) -> tuple[Expression, ...] | None:
        """Return the expressions that the remaining plans have at the slot."""
        return tuple(dict.fromkeys(self.plans[i].get(slot, NONE) for i in sorted(state)))


class Only(Rule):
    """Plans that use only slots, modules and fusions that a restriction allows.

    Args:
        slots: The slots that the rule reads, in network order.
        restriction: The restriction.
        fillable: The slots that can be filled.
    """

    def __init__(self, slots: tuple[str, ...], restriction: Restriction, fillable: frozenset[str]) -> None:
        self.slots, self._restriction, self._fillable = slots, restriction, fillable

    def view(self, slot: str, expression: Expression) -> View:
        """Return True if the expression is allowed at the slot."""
        allowed = expression.is_none or (slot in self._fillable and self._restriction.admits(expression))
        return True if allowed else None

    def step(self, slot: str, state: State, view: View) -> State:
        """Return the same state, because the slots are independent."""
        return state


class Reached(Rule):
    """Plans whose modules all reach the output with the neck of the plan.

    The state is the set of necks with which all modules so far reach the output.

    Args:
        slots: The slots that the rule reads, in network order.
        necks: For each slot that does not always reach the output, the necks with which it does.
        neck: The slot of the neck. None if no plan has a neck.
        offered: The necks that plans can have, and `none` for plans without one.
    """

    def __init__(
        self, slots: tuple[str, ...], necks: Mapping[str, frozenset[str]], neck: str | None, offered: Iterable[str]
    ) -> None:
        self.slots, self._necks, self._neck = slots, necks, neck
        self.start = frozenset(offered)

    def view(self, slot: str, expression: Expression) -> View:
        """Return the necks that a plan with the expression at the slot can have."""
        if slot == self._neck:
            return self.start & {expression.canonical()} or None
        return self.start if expression.is_none else self.start & self._necks.get(slot, self.start) or None

    def step(self, slot: str, state: State, view: View) -> State:
        """Return the necks that are left."""
        return (state & view) or None


class Counted(Rule):
    """Plans within quotas. For each quota, the counts of the slots are added up.

    The state has one entry for each quota: the sum so far, or None if the later slots can no longer break the quota. A
    plan is excluded as soon as the later slots cannot bring the sum within the quota.

    Args:
        quotas: The quotas.
        places: For each quota, the slots at which it counts.
        choices: The choices, slot by slot in network order.
    """

    def __init__(
        self, quotas: Sequence[Quota], places: Sequence[frozenset[str]], choices: Sequence[SlotChoices]
    ) -> None:
        self.slots = tuple(each.slot for each in choices)
        self._quotas, self._places = tuple(quotas), tuple(places)
        self._choices = tuple(choices)
        self._used: dict[Expression, tuple[int, ...]] = {}
        self.start = (0,) * len(self._quotas)

    def view(self, slot: str, expression: Expression) -> View:
        """Return how much an expression adds to the count of each quota."""
        if expression not in self._used:
            self._used[expression] = tuple(quota.of(expression) for quota in self._quotas)
        pairs = zip(self._used[expression], self._places, strict=True)
        return tuple(used if slot in places else 0 for used, places in pairs)

    def step(self, slot: str, state: State, view: View) -> State:
        """Return the sums after the slot, and None for each quota that the plan can no longer break."""
        after: list[int | None] = []
        for quota, held, used, rest in zip(self._quotas, state, view, self._rest[slot], strict=True):
            if held is None:
                after.append(None)
                continue
            total = held + used
            low, high = quota.min or 0, math.inf if quota.max is None else quota.max
            if total + rest[0] > high or total + rest[1] < low:
                return None
            # None for such a quota lets more plans share a state, so there are fewer states.
            after.append(None if total + rest[1] <= high and total + rest[0] >= low else total)
        return tuple(after)

    @cached_property
    def _rest(self) -> Mapping[str, list[tuple[int, int]]]:
        """For each slot and each quota, the smallest and the largest count that all later slots can add."""
        bounds, rest = [(0, 0)] * len(self._quotas), {}
        for choices in reversed(self._choices):
            rest[choices.slot] = bounds
            views = {self.view(choices.slot, e) for e in choices.combinations.expressions}
            each = [(min(used), max(used)) for used in zip(*views, strict=True)]
            bounds = [(low + a, high + b) for (low, high), (a, b) in zip(bounds, each, strict=True)]
        return rest


class AllOf(Rule):
    """Plans that belong to all of several sets.

    Args:
        rules: The rules of the sets. The first rule reads every slot that any other rule reads.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules, self.slots = tuple(rules), rules[0].slots
        self.start = tuple(rule.start for rule in rules)

    def view(self, slot: str, expression: Expression) -> View:
        """Return the view of each rule, or None if any rule excludes the expression."""
        views = tuple(_view(rule, slot, expression) for rule in self._rules)
        return None if None in views else views

    def step(self, slot: str, state: State, view: View) -> State:
        """Return the state of each rule, or None if the plan is outside any of the sets."""
        after = tuple(_step(rule, slot, s, v) for rule, s, v in zip(self._rules, state, view, strict=True))
        return None if None in after else after

    def following(self, slot: str, state: State) -> tuple[Expression, ...] | None:
        """Return the expressions that can follow in all of the sets."""
        told = [_following(rule, slot, s) for rule, s in zip(self._rules, state, strict=True)]
        few = [each for each in told if each is not None]
        return tuple(e for e in few[0] if all(e in each for each in few[1:])) if few else None


class AnyOf(Rule):
    """Plans that belong to at least one of several sets, their union. A plan that is in two sets counts once.

    Args:
        rules: The rules of the sets. In a plan of one set, every slot that only other sets read is empty.
        order: All slots in network order.
    """

    def __init__(self, rules: Sequence[Rule], order: tuple[str, ...]) -> None:
        self._rules, self.slots = tuple(rules), order
        self.start = tuple(rule.start for rule in rules)

    def view(self, slot: str, expression: Expression) -> View:
        """Return the view of each rule, or None if all rules exclude the expression."""
        views = tuple(_view(rule, slot, expression) for rule in self._rules)
        return None if set(views) == {None} else views

    def step(self, slot: str, state: State, view: View) -> State:
        """Return the state of each rule, with None for sets that the plan has left."""
        after = tuple(_step(rule, slot, s, v) for rule, s, v in zip(self._rules, state, view, strict=True))
        return None if set(after) == {None} else after

    def following(self, slot: str, state: State) -> tuple[Expression, ...] | None:
        """Return the expressions that can follow in any of the sets that the plan has not left."""
        told = [_following(rule, slot, s) for rule, s in zip(self._rules, state, strict=True) if s is not None]
        few = [each for each in told if each is not None]
        return tuple(dict.fromkeys(itertools.chain.from_iterable(few))) if len(few) == len(told) else None


class SideBySide(Rule):
    """A product of sets. Each set fills its own slots.

    Args:
        rules: The rule of each set, with the slots that the set fills. No two sets fill the same slot.
        order: All slots in network order.
    """

    def __init__(self, rules: Sequence[tuple[Rule, frozenset[str]]], order: tuple[str, ...]) -> None:
        self._rules, self.slots = tuple(rules), order
        self.start = tuple(rule.start for rule, _ in rules)

    def view(self, slot: str, expression: Expression) -> View:
        """Return the view of each rule. For sets that do not fill the slot, the slot is empty."""
        if not expression.is_none and not any(slot in filled for _, filled in self._rules):
            return None
        views = tuple(_view(rule, slot, expression if slot in filled else NONE) for rule, filled in self._rules)
        return None if None in views else views

    def step(self, slot: str, state: State, view: View) -> State:
        """Return the state of each rule, or None if any rule excludes the plan."""
        after = tuple(_step(rule, slot, s, v) for (rule, _), s, v in zip(self._rules, state, view, strict=True))
        return None if None in after else after

    def following(self, slot: str, state: State) -> tuple[Expression, ...] | None:
        """Return the expressions that can follow in the set that fills the slot."""
        pairs = zip(self._rules, state, strict=True)
        return next((_following(rule, slot, s) for (rule, filled), s in pairs if slot in filled), None)


_ELSEWHERE = "elsewhere"
"""The view of an empty slot that a rule does not read."""


def _following(rule: Rule, slot: str, state: State) -> tuple[Expression, ...] | None:
    return rule.following(slot, state) if slot in rule.slots else (NONE,)


def _view(rule: Rule, slot: str, expression: Expression) -> View:
    if slot in rule.slots:
        return rule.view(slot, expression)
    return _ELSEWHERE if expression.is_none else None


def _step(rule: Rule, slot: str, state: State, view: View) -> State:
    if state is None or view is None:
        return None
    return state if view == _ELSEWHERE else rule.step(slot, state, view)
