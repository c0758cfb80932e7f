"""A space as a person writes it in a mapping or file, and a space that was fitted to a backbone (resolved)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError, ValidationInfo, model_validator

from nasbench.errors import SpaceError
from nasbench.library.expression import Expression, Leaf, parse
from nasbench.library.modules import module_spec
from nasbench.library.plan import BARE, Plan, is_reached
from nasbench.spaces._compositions import LETTERS
from nasbench.spaces._files import read_space_file
from nasbench.spaces._filters import Selector, expand
from nasbench.spaces._fitting import (
    Excluded,
    Fitted,
    Offer,
    bound,
    fit_plans,
    fit_variants,
    multiply,
    necks_of,
    reached,
    restrict,
    unite,
)
from nasbench.spaces._overrides import Override, Variants, WithDepth
from nasbench.spaces._plan_set import PlanSet
from nasbench.spaces._quotas import Quota, Restriction
from nasbench.spaces._reading import Many, explain
from nasbench.spaces._rules import Listed
from nasbench.spaces._slots import SlotLike, SlotsWritten

__all__ = ["GivenPlans", "ResolvedSpace", "Space", "load_space"]


def _read_named(given: Any, info: ValidationInfo) -> Any:
    """Read a space that another space names. An error is then reported with the file of the named space."""
    return Space.from_file(given, **(info.context or {})) if isinstance(given, str) else given


_SpaceWritten = Annotated["Space", BeforeValidator(_read_named)]

_PlanWritten = Annotated[str, BeforeValidator(lambda given: Plan.of(given).typed)]
"""A plan in any of its forms, stored as the text that a person would type."""


class Space(WithDepth):
    """A set of plans as a person writes it, for instance in `search_spaces/*.yaml`.

    A space has `variants`, or it lists its `plans`, or it is made from other spaces by `base`, `union` or `product`.
    Every space except a list of plans can be narrowed by `only` and `quotas`. In Python, `a | b` is a union, `a * b` is
    a product, and `a.restrict(...)` is a restriction.

    Attributes:
        name: Name of the space.
        description: One line, which `nasbench spaces` shows.
        example_backbone: The backbone in which `nasbench spaces` counts the plans.
        example_neck: For a space of dense tasks, the neck of the host in which the plans are counted, or "none".
        example_head: For a space of dense tasks, the head of this host.
        slots: Slot names, shell patterns or selectors. `stages` means every stage slot. A name must exist in the
            backbone. A pattern is allowed to match nothing.
        compositions: `none`, and templates with the letters a, b, c, d (`a`, `a >> b`, `gate(a, b)`). Instead,
            `depth: 1` means the usual compositions of up to two variants, and `depth: 2` those of up to three.
        variants: Expressions, or selectors, which select modules by what these declare.
        distinct_properties: Whether a composition is reduced to its first variant if all its variants declare the same
            properties.
        overrides: Other compositions or variants at some slots.
        same: Whether all slots have the same expression, as in SE-ResNet. Only variants that fit all slots are then
            used.
        plans: All plans of the space, each in any of its forms. A search evaluates exactly these plans.
        base: The space that is narrowed.
        union: Spaces whose plans are joined. No plan of the union mixes two of these spaces.
        product: Spaces with different slots. Every plan of one space is combined with every plan of the others.
        only: The slots and modules that plans can use.
        quotas: Bounds on the number of modules in a plan.

    Example:
        >>> Space.from_dict({"variants": [{"property": "sparsity", "dims": 2}], "depth": 1}).compositions
        ('none', 'a', 'a >> b', 'a + b', 'gate(a, b)')
    """

    name: str = "unnamed"
    description: str = ""
    example_backbone: str = ""
    example_neck: str = ""
    example_head: str = ""
    slots: SlotsWritten = ("stages",)
    compositions: Many[str] = ("none", "a")
    variants: Variants = ()
    distinct_properties: bool = False
    overrides: Many[Override] = ()
    same: bool = False
    plans: Many[_PlanWritten] = ()
    base: _SpaceWritten | None = None
    union: Many[_SpaceWritten] = ()
    product: Many[_SpaceWritten] = ()
    only: Restriction | None = None
    quotas: Many[Quota] = ()

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], origin: str = "space", *, inside: tuple[Path, ...] = ()) -> Space:
        """Return the space that a mapping describes.

        Args:
            given: The mapping. It can contain other spaces as names, files or mappings.
            origin: The name of the space in messages.
            inside: The chain of files that led to this mapping, with the outermost first. It is needed to find the
                files of spaces that the mapping names.

        Raises:
            SpaceError: If a key, value, expression or name is wrong. The message says which one.
        """
        try:
            return cls.model_validate(given, context={"inside": inside})
        except ValidationError as error:
            raise SpaceError(f"{origin}: {explain(error)}") from None
        except RecursionError:
            raise SpaceError(f"{origin}: spaces are nested too deep") from None

    @classmethod
    def from_file(cls, given: str | Path, *, inside: tuple[Path, ...] = ()) -> Space:
        """Read a space by its name or from a file.

        Args:
            given: The name of a space, or the path of a file relative to the file that names it.
            inside: The chain of files that led to this one, with the outermost first.

        Raises:
            UnknownNameError: If no space has the name.
            SpaceError: If the file is malformed, or includes itself.
        """
        file = read_space_file(given, inside=inside)
        return cls.from_dict(file.written, file.origin, inside=file.inside)

    @model_validator(mode="after")
    def _check(self) -> Space:
        self._check_form()
        self._own_variants()  # raises for a wrong name now, and not only when a backbone is known
        for composition in (*self.compositions, *(c for each in self.overrides for c in each.compositions)):
            parse(composition, dict.fromkeys(LETTERS, parse("se")))  # a template can be checked with any module
        return self

    def _check_form(self) -> None:
        forms = [key for key in ("plans", "base", "union", "product") if getattr(self, key)]
        if self.variants or any(each.variants for each in self.overrides):
            forms.append("variants")
        if len(forms) != 1:
            given = f"has {' and '.join(forms)}" if forms else "has none of these"
            raise SpaceError(f"a space has either variants, or base, union or product, or plans; this space {given}")
        own = {"slots", "compositions", "distinct_properties", "overrides", "same"} & self.model_fields_set
        if forms != ["variants"] and own:
            raise SpaceError(
                f"{sorted(own)[0]} is only for a space with variants; narrow a space made from other spaces by `only` "
                "and `quotas`"
            )
        if self.plans and (self.only or self.quotas):
            raise SpaceError("a list of plans cannot be narrowed; `only` and `quotas` are for other spaces")
        if self.same and self.overrides:
            raise SpaceError(
                "with `same` all slots have the same expression; instead of overrides, join two spaces by `product`"
            )

    @property
    def parts(self) -> tuple[Space, ...]:
        """The spaces from which this space is made."""
        return (*((self.base,) if self.base else ()), *self.union, *self.product)

    def expand(self) -> list[Expression]:
        """Return every variant that the space or one of its parts names or selects, without duplicates."""
        return list(dict.fromkeys([*self._own_variants(), *(v for part in self.parts for v in part.expand())]))

    def necks(self) -> list[Expression]:
        """Return every neck among the variants."""
        return [each for each in self.expand() if isinstance(each, Leaf) and module_spec(each.name).kind == "neck"]

    def frozen(self) -> Space:
        """Return the space with its selectors replaced by variants.

        So modules that are registered later are not part of the space.
        """
        overrides = [each.model_copy(update={"variants": _as_texts(each.variants)}) for each in self.overrides]
        changed: dict[str, Any] = {
            "variants": _as_texts(self.variants),
            "overrides": tuple(overrides),
            "base": None if self.base is None else self.base.frozen(),
            "union": tuple(part.frozen() for part in self.union),
            "product": tuple(part.frozen() for part in self.product),
        }
        return self.model_copy(update=changed)

    def _own_variants(self) -> list[Expression]:
        listed = (e.canonical() for text in self.plans for e in Plan.of(text).values())
        return expand([*self.variants, *listed, *(variant for each in self.overrides for variant in each.variants)])

    def resolve(self, slots: Sequence[SlotLike]) -> ResolvedSpace:
        """Fit the space to a backbone.

        Args:
            slots: The backbone's slots (`nasbench.slots`).

        Raises:
            SpaceError: If a slot does not exist, if no variant fits any slot, or if no plan is left.
        """
        fitted = self._fit(slots)
        necks = necks_of(fitted, slots)
        live = [slot for slot in slots if any(is_reached(slot, neck) for neck in necks)]
        if len(live) < len(slots):  # the space offers no neck with which the other slots reach the output
            fitted = self._fit(live)
        fitted = reached(fitted, live)
        kind = GivenPlans if self.plans else ResolvedSpace
        resolved = kind(fitted.choices, fitted.rule, space=self, excluded=fitted.excluded, same=fitted.same)
        if (self.narrowing() or any(slot.necks for slot in live)) and not resolved.count:
            raise SpaceError(f"space {self.name}: no plan is within its quotas and restrictions on this backbone")
        return resolved

    def _fit(self, slots: Sequence[SlotLike]) -> Fitted:
        if self.union:
            fitted = unite([part._fit(slots) for part in self.union], slots)
        elif self.product:
            fitted = multiply(self.name, [part._fit(slots) for part in self.product], slots)
        elif self.base:
            fitted = self.base._fit(slots)
        elif self.plans:
            fitted = fit_plans([Plan.of(text) for text in self.plans], slots)
        else:
            offer = Offer(self.variants, self.compositions, self.distinct_properties)
            fitted = fit_variants(self.name, offer, self.slots, self.overrides, slots, same=self.same)
        if self.only:
            fitted = restrict(self.name, fitted, self.only, slots)
        return bound(self.name, fitted, self.quotas, slots) if self.quotas else fitted

    def restrict(self, **only: Any) -> Space:
        """Return the space of all plans of this space that meet the given conditions.

        Args:
            **only: The keys of `only` in a file: slots, modules, exclude, property, family, exclude_family, dims,
                min_cost_order, max_cost_order. Every module of a plan must meet all conditions. Fusions must meet only
                the conditions on the cost order.

        Raises:
            SpaceError: If a key or value is wrong.

        Example:
            >>> mild = Space.from_dict({"variants": ["se", "self_attention"]}).restrict(max_cost_order=1)
        """
        return Space.from_dict({"name": f"{self.name}, restricted", "base": self, "only": only})

    def with_quotas(self, *quotas: Mapping[str, Any]) -> Space:
        """Return the space of all plans of this space that are within the quotas. Quotas are written as in a file.

        Raises:
            SpaceError: If a key or value is wrong.

        Example:
            >>> few = Space.from_dict({"variants": ["se", "eca"]}).with_quotas({"max": 2})
        """
        return Space.from_dict({"name": f"{self.name}, with quotas", "base": self, "quotas": quotas})

    def __or__(self, other: Space) -> Space:
        if not isinstance(other, Space):
            return NotImplemented
        return Space.from_dict({"name": f"{self.name} | {other.name}", "union": (self, other)})

    def __mul__(self, other: Space) -> Space:
        if not isinstance(other, Space):
            return NotImplemented
        return Space.from_dict({"name": f"{self.name} * {other.name}", "product": (self, other)})

    def narrowing(self) -> dict[str, Any]:
        """Return, as JSON-serialisable data, the conditions on plans beyond the flat choices of a resolved space.

        The result is {} if there is no such condition.
        """
        narrowed: dict[str, Any] = {}
        if self.only:
            narrowed["only"] = self.only.model_dump(mode="json")
        if self.quotas:
            narrowed["quotas"] = [quota.model_dump(mode="json") for quota in self.quotas]
        if self.plans:
            narrowed["plans"] = list(self.plans)
        if self.union:
            narrowed["union"] = [_unnamed(part.model_dump(mode="json")) for part in self.union]
        # The parts of a union are written out above. The parts of a base or a product matter only if they are narrowed.
        inner = [part.narrowing() for part in self.parts if not self.union]
        return narrowed | ({"parts": inner} if any(inner) else {})


def _unnamed(written: Any) -> Any:
    """Return the data of a space without the entries that are only for people and do not change its plans."""
    if isinstance(written, list):
        return [_unnamed(each) for each in written]
    if not isinstance(written, dict):
        return written
    return {
        k: _unnamed(v)
        for k, v in written.items()
        if k not in ("name", "description", "example_backbone", "example_neck", "example_head")
    }


def _as_texts(variants: Iterable[str | Selector]) -> tuple[str, ...]:
    texts = [[v.canonical() for v in each.variants()] if isinstance(each, Selector) else [each] for each in variants]
    return tuple(dict.fromkeys(itertools.chain.from_iterable(texts)))


def load_space(given: str | Path | Mapping[str, Any] | Space) -> Space:
    """Load a space by name, from a YAML file, or from a mapping.

    Raises:
        UnknownNameError: If no space has the name.
        SpaceError: If the file is malformed.
    """
    if isinstance(given, Space):
        return given
    return Space.from_dict(given) if isinstance(given, Mapping) else Space.from_file(given)


@dataclass(frozen=True)
class ResolvedSpace(PlanSet):
    """A space that was fitted to one backbone.

    Attributes:
        slots: The choices, slot by slot in network order.
        rule: The rule that admits plans.
        space: The space that was resolved.
        excluded: (slot, variant or composition, reason) for each variant or composition that does not fit a slot.
    """

    space: Space
    excluded: tuple[Excluded, ...]

    @property
    def identity(self) -> dict[str, Any]:
        """Data that is equal for equal resolved spaces: the parameters, and all further conditions on plans."""
        narrowed = self.space.narrowing()
        return (
            {name: list(choices) for name, choices in self.parameters.items()}
            | ({"narrowed": narrowed} if narrowed else {})
            | ({"same": [list(group) for group in self.same]} if self.same else {})
        )


class GivenPlans(ResolvedSpace):
    """A list of plans that was fitted to one backbone.

    The list has no parameters, because a later search can add plans, but Optuna does not allow new values of a
    parameter.
    """

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans in the order of the list."""
        assert isinstance(self.rule, Listed)
        return self.rule.plans

    @property
    def parameters(self) -> dict[str, tuple[str, ...]]:
        """The parameters: none, because nothing is sampled."""
        return {}

    def plan(self, params: Mapping[str, str]) -> Plan:
        """Return the bare backbone, because there are no choices."""
        return BARE

    def params(self, plan: Plan) -> dict[str, str] | None:
        """Return {} for a plan of the list, and None for any other plan."""
        return {} if plan in self else None

    @property
    def identity(self) -> dict[str, Any]:
        """Data that is equal for all lists of plans: it only says that this is a list."""
        return {"plans": "given"}
