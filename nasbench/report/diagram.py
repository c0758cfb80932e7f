"""A plan as a small diagram for a page: the slots, and the modules in each of them in the order of the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from nasbench.errors import InputError
from nasbench.library.expression import Expression, Fused, Leaf, Series
from nasbench.library.plan import Plan

__all__ = ["Part", "Place", "diagram_of", "drawn_in"]


@dataclass(frozen=True)
class Part:
    """A part of an expression.

    Attributes:
        text: Its text, such as `se(reduction=4)` or `>>`.
        kind: "module", "fusion", or "sign" for what stands between them.
    """

    text: str
    kind: str


@dataclass(frozen=True)
class Place:
    """Consecutive slots of a plan that have the same expression.

    Attributes:
        slots: Their names.
        parts: The parts of the expression, from left to right. Their texts together are the expression.
    """

    slots: tuple[str, ...]
    parts: tuple[Part, ...]


def diagram_of(plan: str) -> tuple[Place, ...]:
    """Return the diagram of a plan. It is empty for the bare backbone, and if a module is not known.

    Args:
        plan: Text of the plan.
    """
    try:
        expressions = Plan.of(plan)
    except InputError:  # a run of others can have a plug-in that is not loaded
        return ()
    return tuple(
        Place(tuple(slots), tuple(_parts(expression)))
        for expression, slots in groupby(expressions, key=expressions.__getitem__)
    )


def _parts(expression: Expression) -> Iterator[Part]:
    """Yield the parts of the canonical text."""
    if isinstance(expression, Series) and not expression.is_none:
        yield from _joined(expression.parts, ">>")
    elif isinstance(expression, Fused) and expression.fusion == "add":
        yield from _joined(expression.branches, "+")
    elif isinstance(expression, Fused):
        yield Part(expression.fusion, "fusion")
        yield Part("(", "sign")
        yield from _joined(expression.branches, ",")
        if expression.hyper:
            keywords = Leaf(expression.fusion, expression.hyper).canonical()[len(expression.fusion) + 1 : -1]
            yield from (Part(",", "sign"), Part(keywords, "sign"))
        yield Part(")", "sign")
    else:
        yield Part(expression.canonical(), "module")


def _joined(expressions: Iterable[Expression], sign: str) -> Iterator[Part]:
    for index, each in enumerate(expressions):
        if index:
            yield Part(sign, "sign")
        # A series binds more weakly than +. Every other part of a series or a sum binds more strongly.
        if sign == "+" and isinstance(each, Series) and not each.is_none:
            yield Part("(", "sign")
            yield from _parts(each)
            yield Part(")", "sign")
        else:
            yield from _parts(each)


def drawn_in(sentence: str, diagrams: Mapping[str, tuple[Place, ...]]) -> Iterator[str | tuple[Place, ...]]:
    """Yield a sentence in pieces, in which a diagram replaces each plan.

    Args:
        sentence: The sentence.
        diagrams: The diagram of each plan, by the text that names the plan and its trial (`plan_in_sentence`). The
            trial stays a part of the sentence.
    """
    # A long name first, because a shorter one can be a part of it.
    name = next((each for each in sorted(diagrams, key=len, reverse=True) if each in sentence), None)
    if name is None:
        yield sentence
        return
    before, after = sentence.split(name, 1)
    yield from drawn_in(before, diagrams)
    yield diagrams[name]
    yield from drawn_in(name[name.rindex(" (") :] + after, diagrams)
