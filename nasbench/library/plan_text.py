"""Read the text of a plan into slots and the texts of their expressions.

These are three forms of the same plan:

    stage3=agent_attention; stage4=eca >> se
    stage3: agent_attention; stage4: eca >> se
    {"stage3": "agent_attention", "stage4": "eca >> se"}

In the first two forms, `;` or the end of a line separates the parts. A part without a slot name is an expression for
every stage slot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from nasbench.errors import PlanError

__all__ = ["EVERY_STAGE", "FORMS", "read_plan_text"]

EVERY_STAGE = "stages"
"""The key of an expression that was given without a slot. `Plan.resolve` replaces it by the backbone's stage slots."""

FORMS = (
    "a plan is one expression for every stage, such as `eca >> se`, or `stage3=agent_attention; stage4=se`, "
    'or {"stage3": "agent_attention"}'
)
"""The allowed forms, for messages."""

_SLOT = re.compile(r"[\w.-]+\Z")
_SHOWN = 80
"""A message repeats at most this many characters of a plan."""


def read_plan_text(text: str) -> dict[str, Any]:
    """Return the texts of a plan's expressions by slot, in the order of the text.

    Args:
        text: A plan in any of its forms. An expression without a slot gets the key `EVERY_STAGE`.

    Raises:
        PlanError: If the text is malformed JSON, if a slot has no name or is named twice, or if two expressions have no
            slot.
    """
    if text.lstrip().startswith("{"):
        return _json_object(text)
    found: dict[str, str] = {}
    for piece in _pieces(text) or [text]:  # an empty text gives the error of an empty expression
        at = next((i for i, mark in _top_level(piece) if mark in "=:"), None)
        slot = EVERY_STAGE if at is None else piece[:at].strip()
        if not _SLOT.match(slot):
            raise PlanError(f"{_short(slot)!r} before {piece[at]!r} is not the name of a slot; {FORMS}")  # type: ignore[index]
        if slot in found:
            raise PlanError(_twice(slot) if at is not None else f"the plan has two expressions without a slot; {FORMS}")
        found[slot] = piece if at is None else piece[at + 1 :].strip()
        if at is not None and not found[slot]:
            raise PlanError(f"slot {slot} has no expression; write {slot}=none for nothing, or leave it out")
    return found


def _pieces(text: str) -> list[str]:
    """Return the pieces between `;` and line ends, without empty ones."""
    ends = [i for i, mark in _top_level(text) if mark in ";\n\r"]
    pieces = (text[a + 1 : b].strip() for a, b in zip([-1, *ends], [*ends, len(text)], strict=True))
    return [piece for piece in pieces if piece]


def _top_level(text: str) -> Iterator[tuple[int, str]]:
    """Yield the characters outside of brackets and quotes, each after its position.

    So the `=` of a hyper-parameter, as in `se(reduction=4)`, is not mistaken for the `=` after a slot.
    """
    depth, quote, escaped = 0, "", False
    for i, mark in enumerate(text):
        if quote:
            quote = "" if mark == quote and not escaped else quote
            escaped = mark == "\\" and not escaped
        elif mark in "'\"":
            quote = mark
        elif mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth = max(depth - 1, 0)  # the parser of the expression reports a closing bracket too many
        elif not depth:
            yield i, mark


def _json_object(text: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # If a key is given twice, Python's parser silently uses its last value.
        keys = [key for key, _ in pairs]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise PlanError(_twice(sorted(twice)[0]))
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        fault = f"the plan is not valid JSON: {error.msg} at column {error.colno}: {_short(text)}"
        raise PlanError(f"{fault}; {FORMS}") from None
    except RecursionError:
        raise PlanError("the plan is not a JSON object of slot to expression: it is nested too deep") from None


def _twice(slot: str) -> str:
    return f"the plan names slot {_short(slot)!r} twice"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
