"""Filters that select modules by what the modules declare: properties, family, dimensions and cost order.

In a space, the keys `variants`, `only` and `quotas` accept such filters.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from nasbench.errors import SpaceError, UnknownNameError
from nasbench.library.expression import Expression, parse
from nasbench.library.modules import module_specs
from nasbench.library.registry import ModuleSpec, property_name
from nasbench.spaces._reading import Many, Written

__all__ = ["ModuleFilter", "Selector", "expand", "is_pattern"]

Property = Annotated[str, AfterValidator(property_name)]


def is_pattern(text: str) -> bool:
    """Return whether `text` is a shell pattern, not a single name."""
    return any(mark in text for mark in "*?[")


class ModuleFilter(Written):
    """The modules that meet every given condition.

    Attributes:
        modules: Names or shell patterns. At least one of them must match the module.
        exclude: Names or shell patterns of modules to leave out.
        property: Properties. A module must declare all of them.
        family: Families. The module must belong to one of them. The family of a module is the folder of its plug-in
            file ("channel", "token", ...). This also holds for a user's own module.
        exclude_family: Families to leave out.
        dims: Number of spatial dimensions that a module must support, 1 or 2.
        min_cost_order: Smallest allowed exponent with which the cost grows with the number of positions. 2 means
            quadratic or more.
        max_cost_order: Largest allowed exponent. 1 means linear or less.
    """

    word: ClassVar[str] = "module filter"

    modules: Many[str] = ("*",)
    exclude: Many[str] = ()
    property: Many[Property] = ()
    family: Many[str] = ()
    exclude_family: Many[str] = ()
    dims: Literal[1, 2] | None = None
    min_cost_order: int | None = Field(default=None, ge=0)
    max_cost_order: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        """Raise an error if a module or family does not exist, or if a pattern matches nothing."""
        # Otherwise a misspelt name would silently change the space.
        specs = module_specs()
        names, families = [spec.name for spec in specs], {spec.family for spec in specs}
        for text in (*self.modules, *self.exclude):
            if is_pattern(text):
                if not fnmatch.filter(names, text):
                    raise SpaceError(f"no module matches the pattern {text!r}; `nasbench modules` lists all")
            elif text not in names:
                raise UnknownNameError("module", text, names, "`nasbench modules` lists all")
        for text in (*self.family, *self.exclude_family):
            if text not in families:
                raise UnknownNameError("family of modules", text, families)
        return self

    def asks_cost(self) -> bool:
        """Return whether the filter has a condition on the cost order."""
        return self.min_cost_order is not None or self.max_cost_order is not None

    def takes_cost(self, spec: ModuleSpec) -> bool:
        """Return whether the cost order of a module or fusion is within the limits."""
        low, high = self.min_cost_order, self.max_cost_order
        return (low is None or spec.cost_order >= low) and (high is None or spec.cost_order <= high)

    def takes(self, spec: ModuleSpec) -> bool:
        """Return whether a module or fusion meets every condition."""
        return (
            _any_matches(spec.name, self.modules)
            and not _any_matches(spec.name, self.exclude)
            and all(spec.has(property) for property in self.property)
            and (not self.family or spec.family in self.family)
            and spec.family not in self.exclude_family
            and (self.dims is None or self.dims in spec.dims)
            and self.takes_cost(spec)
        )


class Selector(ModuleFilter):
    """Variants that are selected by what modules declare. A user's own modules can be selected too.

    Attributes:
        values: "default" means the default hyper-parameters. "all" also adds one variant for every search value of
            every hyper-parameter. All other hyper-parameters keep their defaults.
    """

    word: ClassVar[str] = "variant selector"

    values: Literal["default", "all"] = "default"

    def variants(self) -> list[Expression]:
        """Return the selected variants, sorted by the name of their module.

        A control has `selectable=False`: patterns and conditions never select it, only its full name does.

        Raises:
            SpaceError: If no module meets the conditions.
        """
        offered = [s for s in module_specs(kind="module") if s.selectable or s.name in self.modules]
        chosen = [spec for spec in offered if self.takes(spec)]
        if not chosen:
            raise SpaceError(f"no module meets {self.model_dump()}; `nasbench modules` lists what each module declares")
        return list(dict.fromkeys(parse(text) for spec in chosen for text in self._texts(spec)))

    def _texts(self, spec: ModuleSpec) -> Iterator[str]:
        yield spec.name
        if self.values == "all":
            for key, values in spec.space.items():
                for value in values:
                    yield f"{spec.name}({key}={value!r})"


def expand(variants: Iterable[str | Selector]) -> list[Expression]:
    """Return every variant that is named or selected, without duplicates."""
    lists = [each.variants() if isinstance(each, Selector) else [parse(each)] for each in variants]
    return list(dict.fromkeys(itertools.chain.from_iterable(lists)))


def _any_matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
