"""Quotas limit how many modules a plan can have. Restrictions limit which modules it can have."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nasbench.errors import SpaceError
from nasbench.library.expression import Expression
from nasbench.library.modules import module_spec
from nasbench.spaces._filters import ModuleFilter
from nasbench.spaces._slots import SlotsWritten

__all__ = ["Quota", "Restriction"]


class Quota(ModuleFilter):
    """A bound on the number of matching modules in a plan, such as `{property: globality, min: 1}` or `{max: 2}`.

    Attributes:
        slots: The slots in which the quota counts. The default is all slots.
        count: What is counted: "modules", "fusions", "parts" (modules and fusions), or "slots" that have a matching
            part. The default is "modules". It is "parts" if the quota has a condition on the cost order, because
            fusions have a cost order too.
        min: Smallest allowed number.
        max: Largest allowed number.
    """

    word: ClassVar[str] = "quota"

    slots: SlotsWritten = ("*",)
    count: Literal["modules", "fusions", "parts", "slots"] | None = None
    min: int | None = Field(default=None, ge=0)
    max: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check_bounds(self) -> Quota:
        if self.min is None and self.max is None:
            raise SpaceError("a quota needs `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise SpaceError(f"no plan can satisfy a quota of at least {self.min} and at most {self.max}")
        return self

    def of(self, expression: Expression) -> int:
        """Return how much an expression adds to the count of the quota."""
        kinds = {"modules": ("module",), "fusions": ("fusion",)}.get(self._counted(), ("module", "fusion"))
        amount = sum(spec.kind in kinds and self.takes(spec) for spec in expression.specs())
        return min(amount, 1) if self._counted() == "slots" else amount

    def _counted(self) -> str:
        return self.count or ("parts" if self.asks_cost() else "modules")


class Restriction(ModuleFilter):
    """Conditions on everything in a plan: on its slots, on each module, and on the cost order of each fusion.

    Attributes:
        slots: The slots that can be filled. All other slots stay empty.
    """

    word: ClassVar[str] = "restriction"

    slots: SlotsWritten = ("*",)

    def admits(self, expression: Expression) -> bool:
        """Return whether all modules and fusions of an expression are allowed, in any slot."""
        modules = (module_spec(leaf.name) for leaf in expression.leaves())
        return all(self.takes(spec) for spec in modules) and all(self.takes_cost(s) for s in expression.specs())
