"""Variants and compositions as a person writes them, and overrides that replace them at some slots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Tag, model_validator

from nasbench.errors import SpaceError
from nasbench.spaces._compositions import MAX_DEPTH, usual_compositions
from nasbench.spaces._filters import Selector
from nasbench.spaces._reading import Many, Written
from nasbench.spaces._slots import SlotsWritten

__all__ = ["Override", "Variants", "WithDepth"]

Variants = Many[
    Annotated[
        Annotated[str, Tag("<expression>")] | Annotated[Selector, Tag("<selector>")],
        Discriminator(lambda given: "<expression>" if isinstance(given, str) else "<selector>"),
    ]
]
"""Variants as a person writes them: the texts of expressions, and selectors."""


class WithDepth(Written):
    """A part of a space that can have `depth` instead of `compositions`."""

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the allowed keys."""
        return [*super().known_keys(), "depth"]

    @model_validator(mode="before")
    @classmethod
    def _spell_depth(cls, given: Any) -> Any:
        """Replace `depth` by its compositions."""
        if not isinstance(given, Mapping) or given.get("depth") is None:
            return given
        depth = given["depth"]
        if "compositions" in given:
            raise SpaceError("give `depth` or `compositions`, not both")
        # In Python, True is an int too.
        if not isinstance(depth, int) or isinstance(depth, bool) or not 0 <= depth <= MAX_DEPTH:
            raise SpaceError(f"depth is {depth!r}; allowed: 0 (one module) to {MAX_DEPTH} ({MAX_DEPTH + 1} joined)")
        rest = {key: value for key, value in given.items() if key != "depth"}
        return {**rest, "compositions": usual_compositions(depth)}


class Override(WithDepth):
    """Other choices at some slots. If two overrides are for the same slot, the later one applies.

    Attributes:
        slots: The slots, written as in `Space`.
        compositions: The compositions that replace those of the space.
        variants: The variants that replace those of the space.
        distinct_properties: The value that replaces that of the space.
    """

    word: ClassVar[str] = "slot override"

    slots: SlotsWritten
    compositions: Many[str] = ()
    variants: Variants = ()
    distinct_properties: bool | None = None
