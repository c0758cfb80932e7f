"""A plan: the expression in each slot of a backbone.

Its canonical text is JSON with the slots in natural order and `none` left out. Its hash is the hash of that text.
`plan_text` reads the other forms in which a person can write a plan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any, Protocol

from nasbench.errors import ExpressionError, PlanError, UnknownNameError
from nasbench.library.expression import NONE, Expression, parse, text_hash
from nasbench.library.plan_text import EVERY_STAGE, FORMS, read_plan_text

__all__ = ["BARE", "EVERY_STAGE", "NECK", "Plan", "check_neck_is_free", "is_reached", "is_stage_slot"]

NECK = "neck"
"""Name of the slot for a neck."""

_STAGE = re.compile(r"stage\d+\Z")


def is_stage_slot(name: str) -> bool:
    """Whether a slot is after a whole stage (`stage3`, but not `stage3.block2` or `embed`)."""
    return _STAGE.match(name) is not None


class _Reachable(Protocol):
    @property
    def necks(self) -> tuple[str, ...] | None:
        """Necks of plans with which the slot reaches the output. None if it always does."""


def is_reached(slot: _Reachable, neck: str) -> bool:
    """Return whether a slot reaches the output in plans with a neck. `none` stands for plans without one."""
    return slot.necks is None or neck in slot.necks


class Plan(Mapping[str, Expression]):
    """An immutable mapping of slot names to expressions, without those that are `none`.

    Make one with `Plan.of`. Two plans are equal if their canonical texts are equal.
    """

    def __init__(self, expressions: Mapping[str, Expression]) -> None:
        # The slots are sorted and `none` is dropped, so that equal plans have one text and one hash. If the plan has an
        # entry for EVERY_STAGE, a `none` is kept until the plan is resolved, because it exempts its slot from that
        # entry.
        exempts = EVERY_STAGE in expressions and not expressions[EVERY_STAGE].is_none
        kept = {slot: e for slot, e in expressions.items() if exempts or not e.is_none}
        self._expressions = {slot: kept[slot] for slot in sorted(kept, key=_natural)}

    @classmethod
    def of(cls, given: Plan | Mapping[str, Any] | Expression | str | None) -> Plan:
        """Make a plan from any of the forms in which a person gives one.

        Args:
            given: A plan, a dict of slot to expression, or the text of such a dict, as JSON or as in the example. A
                single expression, or its text, goes to every stage slot. None or "none" gives the bare backbone.

        Raises:
            PlanError: If the text is malformed, or if `given` is not such a dict.
            ExpressionError: If an expression is malformed.
            UnknownNameError: If a module does not exist.

        Example:
            >>> Plan.of({"stage2": "none", "stage1": "se(reduction=16)"}).text
            '{"stage1": "se"}'
            >>> Plan.of("stage3=eca >> se; stage4=se(reduction=4)").text
            '{"stage3": "eca >> se", "stage4": "se(reduction=4)"}'
        """
        if isinstance(given, Plan):
            return given
        if given is None:
            return cls({})
        if isinstance(given, Expression):
            return cls({EVERY_STAGE: given})
        if isinstance(given, str):
            given = read_plan_text(given)
        if not isinstance(given, Mapping):
            raise PlanError(f"a plan is a dict of slot to expression, or text; got {type(given).__name__}; {FORMS}")
        for slot, expression in given.items():
            if not isinstance(slot, str) or not isinstance(expression, (str, Expression)):
                raise PlanError(f"a plan maps slot names to expressions, got {slot!r}: {expression!r}; {FORMS}")
        return cls({slot: _parse_in(slot, expression) for slot, expression in given.items()})

    def resolve(self, slots: Iterable[str]) -> Plan:
        """Fit the plan to a backbone's slots.

        An expression that was given without a slot goes to every stage slot. If the backbone has no stage slot, it goes
        to every slot.

        Args:
            slots: The names of the backbone's slots.

        Raises:
            UnknownNameError: If the plan names a slot that the backbone does not have. The message lists the slots that
                it has.
        """
        slots = list(slots)
        stages = [slot for slot in slots if is_stage_slot(slot)]
        placed: dict[str, Expression] = {}
        if EVERY_STAGE in self._expressions and EVERY_STAGE not in slots:
            placed = dict.fromkeys(stages or slots, self._expressions[EVERY_STAGE])
        # An expression that is given for a slot overrides the EVERY_STAGE expression in this slot.
        for slot, expression in self._expressions.items():
            if slot in slots:
                placed[slot] = expression
            elif slot != EVERY_STAGE:
                raise UnknownNameError("slot", slot, slots, f"this backbone has {', '.join(slots) or 'none'}")
        return Plan({slot: e for slot, e in placed.items() if not e.is_none})

    @property
    def neck(self) -> str:
        """The neck of the plan, as an expression. `none` if the host keeps its own neck."""
        return self._expressions.get(NECK, NONE).canonical()

    @cached_property
    def text(self) -> str:
        """The canonical text: JSON with the slots in natural order."""
        return json.dumps({slot: e.canonical() for slot, e in self._expressions.items()}, ensure_ascii=False)

    @property
    def typed(self) -> str:
        """The plan as a person types it: `stage3=eca; stage4=se`, or `none` for the bare backbone."""
        slots = sorted(self, key=lambda slot: slot != EVERY_STAGE)  # the expression for every stage comes first
        pieces = (f"{self[slot]}" if slot == EVERY_STAGE else f"{slot}={self[slot]}" for slot in slots)
        return "; ".join(pieces) or "none"

    @cached_property
    def hash(self) -> str:
        """The stable hash of the canonical text, 16 hexadecimal digits."""
        return text_hash(self.text)

    @property
    def is_bare(self) -> bool:
        """Whether the plan is the bare backbone, with nothing inserted."""
        return not self._expressions

    def __getitem__(self, slot: str) -> Expression:
        return self._expressions[slot]

    def __iter__(self) -> Iterator[str]:
        return iter(self._expressions)

    def __len__(self) -> int:
        return len(self._expressions)

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.text == other.text

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Plan({self.text})"


def check_neck_is_free(plans: Iterable[Plan], fixed: str) -> None:
    """Check that no plan has a neck, because one neck is given for all plans.

    Raises:
        PlanError: If a plan has one.
    """
    for plan in plans:
        if NECK in plan:
            raise PlanError(
                f"slot {NECK}: --neck {fixed} is the neck of every plan; leave out --neck, or {NECK}={plan.neck}"
            )


@lru_cache(maxsize=1024)
def _natural(slot: str) -> tuple[tuple[int, Any], ...]:
    """Return a sort key under which `stage10` comes after `stage9`."""
    # Each part is tagged, because Python cannot compare a number with a string.
    return tuple((1, int(p)) if p.isdigit() else (0, p) for p in re.split(r"(\d+)", slot) if p)


def _parse_in(slot: str, expression: str | Expression) -> Expression:
    try:
        return parse(expression)
    except (UnknownNameError, ExpressionError) as error:
        # The error object is changed and not replaced, so that it keeps its attributes and its hint.
        if slot != EVERY_STAGE:
            error.args = (f"{slot}: {error}",)
        elif isinstance(error, ExpressionError):  # the user may have tried to name a slot
            error.args = (f"{error}\n{FORMS}",)
        elif is_stage_slot(error.name):
            raise PlanError(f"slot {error.name} has no expression; write {error.name}=se, for instance") from None
        raise


BARE = Plan({})
"""The plan of the bare backbone, which inserts nothing."""
