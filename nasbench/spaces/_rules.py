"""Which plans belong to a space, decided slot by slot in network order.

A rule reads a plan as a finite automaton reads a word: from a state, what it sees at a slot leads to the next state or
out of the space. Two plans in the same state have the same future, so that plans are counted and drawn by state and not
one by one. Rules combine: one per part of a union, of a product, and one for quotas.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from nasbench.library.expression import NONE, Expression
from nasbench.spaces._choices import SlotChoices
from nasbench.spaces._quotas import Quota, Restriction

__all__ = ["AllOf", "AnyOf", "Chosen", "Counted", "Only", "Rule", "SideBySide"]

State = Any
"""Hashable; None stands for "out of the space"."""

View = Any
"""Hashable; expressions that look the same to a rule are one to it."""


class Rule(ABC):
    """Decides over plans.

    Attributes:
        slots: The slots it reads, in network order; every other slot must be empty.
        start: The state before the first slot.
    """

    slots: tuple[str, ...]
    start: State = ()

    @abstractmethod
    def view(self, slot: str, expression: Expression) -> View:
        """Return what the rule sees of an expression at a slot; None if no plan may hold it there."""

    @abstractmethod
    def step(self, slot: str, state: State, view: View) -> State:
        """Return the state after a slot; None if no plan that began so belongs to the space."""


class Chosen(Rule):
    """Every slot holds one of its expressions, independently of the others.

    Args:
        choices: Slot by slot in network order.
    """

    def __init__(self, choices: Sequence[SlotChoices]) -> None:
        self.slots = tuple(each.slot for each in choices)
        self._choices = {each.slot: each for each in choices}

    def view(self, slot: str, expression: Expression) -> View:
        """True where the slot offers the expression."""
        return True if expression in self._choices[slot].combinations else None

    def step(self, slot: str, state: State, view: View) -> State:
        """Stay."""
        return state


class Only(Rule):
    """Nothing but what a restriction allows.

    Args:
        slots: Slots that are read, in network order.
        restriction: What is allowed.
        fillable: Slots that may hold something.
    """

    def __init__(self, slots: tuple[str, ...], restriction: Restriction, fillable: frozenset[str]) -> None:
        self.slots, self._restriction, self._fillable = slots, restriction, fillable

    def view(self, slot: str, expression: Expression) -> View:
        """True where it is allowed."""
        allowed = expression.is_none or (slot in self._fillable and self._restriction.admits(expression))
        return True if allowed else None

    def step(self, slot: str, state: State, view: View) -> State:
        """Stay."""
        return state


class Counted(Rule):
    """Quotas: what each slot uses up of them, summed.

    The state has one entry a quota: the sum so far, or None once the rest of the plan cannot break it any more. A sum
    that the rest cannot mend leads out at once.

    Args:
        quotas: The quotas.
        places: For each quota the slots it counts at.
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
        """What an expression uses up of each quota."""
        if expression not in self._used:
            self._used[expression] = tuple(quota.of(expression) for quota in self._quotas)
        pairs = zip(self._used[expression], self._places, strict=True)
        return tuple(used if slot in places else 0 for used, places in pairs)

    def step(self, slot: str, state: State, view: View) -> State:
        """Add up."""
        after: list[int | None] = []
        for quota, held, used, rest in zip(self._quotas, state, view, self._rest[slot], strict=True):
            if held is None:
                after.append(None)
                continue
            total = held + used
            low, high = quota.min or 0, math.inf if quota.max is None else quota.max
            if total + rest[0] > high or total + rest[1] < low:
                return None
            after.append(None if total + rest[1] <= high and total + rest[0] >= low else total)
        return tuple(after)

    @cached_property
    def _rest(self) -> Mapping[str, list[tuple[int, int]]]:
        """For each slot, and each quota, the least and the most that all slots after it can use up."""
        bounds, found = [(0, 0)] * len(self._quotas), {}
        for choices in reversed(self._choices):
            found[choices.slot] = bounds
            views = {self.view(choices.slot, e) for e in choices.combinations.expressions}
            each = [(min(used), max(used)) for used in zip(*views, strict=True)]
            bounds = [(low + a, high + b) for (low, high), (a, b) in zip(bounds, each, strict=True)]
        return found


class AllOf(Rule):
    """Plans that belong to every one of several sets.

    Args:
        rules: The first reads every slot that another reads.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules, self.slots = tuple(rules), rules[0].slots
        self.start = tuple(rule.start for rule in rules)

    def view(self, slot: str, expression: Expression) -> View:
        """What every rule sees."""
        views = tuple(_view(rule, slot, expression) for rule in self._rules)
        return None if None in views else views

    def step(self, slot: str, state: State, view: View) -> State:
        """Step all."""
        after = tuple(_step(rule, slot, s, v) for rule, s, v in zip(self._rules, state, view, strict=True))
        return None if None in after else after


class AnyOf(Rule):
    """Plans that belong to at least one of several sets: a union. A plan in two of them is one plan.

    Args:
        rules: The sets; a plan of one leaves the slots that only others read empty.
        order: All slots in network order.
    """

    def __init__(self, rules: Sequence[Rule], order: tuple[str, ...]) -> None:
        self._rules, self.slots = tuple(rules), order
        self.start = tuple(rule.start for rule in rules)

    def view(self, slot: str, expression: Expression) -> View:
        """What every rule sees."""
        views = tuple(_view(rule, slot, expression) for rule in self._rules)
        return None if set(views) == {None} else views

    def step(self, slot: str, state: State, view: View) -> State:
        """Step those that are still in."""
        after = tuple(_step(rule, slot, s, v) for rule, s, v in zip(self._rules, state, view, strict=True))
        return None if set(after) == {None} else after


class SideBySide(Rule):
    """A product: each set fills slots of its own.

    Args:
        rules: The sets, each with the slots it fills; no slot is filled by two.
        order: All slots in network order.
    """

    def __init__(self, rules: Sequence[tuple[Rule, frozenset[str]]], order: tuple[str, ...]) -> None:
        self._rules, self.slots = tuple(rules), order
        self.start = tuple(rule.start for rule, _ in rules)

    def view(self, slot: str, expression: Expression) -> View:
        """What the set that fills the slot sees; the others see it empty."""
        if not expression.is_none and not any(slot in filled for _, filled in self._rules):
            return None
        views = tuple(_view(rule, slot, expression if slot in filled else NONE) for rule, filled in self._rules)
        return None if None in views else views

    def step(self, slot: str, state: State, view: View) -> State:
        """Step all."""
        after = tuple(_step(rule, slot, s, v) for (rule, _), s, v in zip(self._rules, state, view, strict=True))
        return None if None in after else after


_ELSEWHERE = "elsewhere"
"""What a rule sees of an empty slot that it does not read."""


def _view(rule: Rule, slot: str, expression: Expression) -> View:
    if slot in rule.slots:
        return rule.view(slot, expression)
    return _ELSEWHERE if expression.is_none else None


def _step(rule: Rule, slot: str, state: State, view: View) -> State:
    if state is None or view is None:
        return None
    return state if view == _ELSEWHERE else rule.step(slot, state, view)
