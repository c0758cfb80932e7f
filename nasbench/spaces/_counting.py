"""Count, number and check plans exactly with the states of a rule, without listing the plans.

A table contains, for each state, the number of ways to complete a plan from this state. It is filled from the last slot
to the first. The counts are Python integers, which have no upper limit. The plan with a given number is found from the
first slot to the last, by skipping whole blocks of plans. To draw a plan uniformly, its number is drawn uniformly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nasbench.errors import SpaceError
from nasbench.library.expression import Expression
from nasbench.spaces._rules import Rule, State, View

__all__ = ["PlanTable"]

_MAX_STATES = 50_000
"""Largest number of states in all slots together. Counting with this many states takes about a second."""


@dataclass(frozen=True)
class _Layer:
    """One slot of the automaton.

    Attributes:
        slot: The slot's name.
        seen: For each expression, the view that the rule has of the expression.
        alike: For each view, the expressions with this view.
        moves: For each state before the slot, the possible views, each with the state after the slot.
    """

    slot: str
    seen: dict[Expression, View]
    alike: dict[View, list[Expression]]
    moves: dict[State, list[tuple[View, State]]]


class PlanTable:
    """The plans that a rule admits. They are numbered from 0.

    Args:
        offered: The possible expressions at each slot of the rule, in the order of the slots.
        rule: The rule that admits plans.

    Raises:
        SpaceError: If the quotas need too many states.
    """

    def __init__(self, offered: Sequence[tuple[str, Sequence[Expression]]], rule: Rule) -> None:
        self._rule = rule
        self._layers = self._forward(offered)
        self._ways = self._backward()
        self.count: int = self._ways[0].get(rule.start, 0)

    def at(self, index: int) -> list[Expression]:
        """Return the expressions of plan number `index`, slot by slot. `index` is from 0 to `count` - 1."""
        if not 0 <= index < self.count:
            raise IndexError(f"plan {index} of {self.count}")
        state, chosen = self._rule.start, []
        for layer, ways in zip(self._layers, self._ways[1:], strict=True):
            for view, after in layer.moves[state]:
                # A block of plans is each expression with this view, combined with each way to fill the later slots.
                alike, each = layer.alike[view], ways.get(after, 0)
                if index < len(alike) * each:
                    chosen.append(alike[index // each])
                    state, index = after, index % each
                    break
                index -= len(alike) * each
        return chosen

    def admits(self, expressions: Sequence[Expression]) -> bool:
        """Return whether the rule admits the plan with these expressions, one for each slot of the rule."""
        return self._follow(0, self._rule.start, [self._see(i, e) for i, e in enumerate(expressions)])

    def replacements(
        self, expressions: Sequence[Expression], place: int, candidates: Sequence[Expression]
    ) -> list[Expression]:
        """Return the candidates that can replace the expression at one place of a plan."""
        views = [self._see(i, e) for i, e in enumerate(expressions)]
        state = self._rule.start
        for i in range(place):
            state = self._step(i, state, views[i])
        verdicts: dict[View, bool] = {}
        admitted = []
        for candidate in candidates:
            view = self._see(place, candidate)
            if view not in verdicts:  # the rest of the plan is checked once for all candidates with the same view
                verdicts[view] = self._follow(place, state, [view, *views[place + 1 :]])
            if verdicts[view]:
                admitted.append(candidate)
        return admitted

    def _follow(self, place: int, state: State, views: Sequence[View]) -> bool:
        for i, view in enumerate(views, start=place):
            state = self._step(i, state, view)
        return state is not None

    def _step(self, place: int, state: State, view: View) -> State:
        return None if state is None or view is None else self._rule.step(self._layers[place].slot, state, view)

    def _see(self, place: int, expression: Expression) -> View:
        return self._layers[place].seen.get(expression)

    def _forward(self, offered: Sequence[tuple[str, Sequence[Expression]]]) -> list[_Layer]:
        states, held, layers = [self._rule.start], 1, []
        for slot, expressions in offered:
            seen = {e: view for e in expressions if (view := self._rule.view(slot, e)) is not None}
            # Expressions with the same view lead to the same state, so they are counted together.
            alike: dict[View, list[Expression]] = {}
            for expression, view in seen.items():
                alike.setdefault(view, []).append(expression)
            moves = {state: self._moves(slot, state, seen, alike) for state in states}
            states = list(dict.fromkeys(after for each in moves.values() for _, after in each))
            held += len(states)
            # This is checked at every slot, so that a space with too many states fails before it fills the memory.
            if held > _MAX_STATES:
                raise SpaceError(
                    f"over {_MAX_STATES:,} states to count; give fewer quotas or smaller bounds, and with same: true, "
                    "fewer variants"
                )
            layers.append(_Layer(slot, seen, alike, moves))
        return layers

    def _moves(
        self, slot: str, state: State, seen: Mapping[Expression, View], alike: Mapping[View, list[Expression]]
    ) -> list[tuple[View, State]]:
        # If only a few expressions can follow each state, they are tried alone. Trying all expressions in all states
        # would take quadratic time.
        few = self._rule.following(slot, state)
        views = alike if few is None else dict.fromkeys(seen[expression] for expression in few if expression in seen)
        steps = ((view, self._rule.step(slot, state, view)) for view in views)
        return [(view, after) for view, after in steps if after is not None]

    def _backward(self) -> list[dict[State, int]]:
        """Return, for the states before each slot and after the last, how many ways there are to complete a plan."""
        last = {self._rule.start}  # without slots there is one plan, which is empty
        if self._layers:
            last = {after for each in self._layers[-1].moves.values() for _, after in each}
        ways: list[dict[State, int]] = [dict.fromkeys(last, 1)]  # one way to add nothing to a complete plan
        for layer in reversed(self._layers):
            following = ways[-1]
            ways.append(
                {
                    state: sum(len(layer.alike[view]) * following[after] for view, after in moves)
                    for state, moves in layer.moves.items()
                }
            )
        return ways[::-1]
