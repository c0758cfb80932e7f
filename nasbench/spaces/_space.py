"""A space as a person writes it: variants, compositions and slots; or other spaces united, multiplied, restricted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Discriminator, Tag, ValidationError, ValidationInfo, model_validator

from nasbench.errors import SpaceError
from nasbench.library.expression import Expression, parse
from nasbench.spaces import _resolving
from nasbench.spaces._compositions import LETTERS, MAX_DEPTH, usual_compositions
from nasbench.spaces._filters import Selector, expand
from nasbench.spaces._quotas import Quota, Restriction
from nasbench.spaces._reading import Many, Written, explain
from nasbench.spaces._resolved import ResolvedSpace
from nasbench.spaces._slots import SlotLike, SlotsWritten

__all__ = ["Override", "Space"]

_Variants = Many[
    Annotated[
        Annotated[str, Tag("<expression>")] | Annotated[Selector, Tag("<selector>")],
        Discriminator(lambda given: "<expression>" if isinstance(given, str) else "<selector>"),
    ]
]


def _loaded(given: Any, info: ValidationInfo) -> Any:
    """Load a space that is named inside another."""
    if not isinstance(given, str):
        return given
    from nasbench.spaces import _files  # here alone: files are read into spaces, and a space may name a file

    return _files.load(given, **(info.context or {}))


_SpaceWritten = Annotated["Space", BeforeValidator(_loaded)]


class _WithDepth(Written):
    """What may give `depth` in place of `compositions`."""

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the keys that may be written."""
        return [*super().known_keys(), "depth"]

    @model_validator(mode="before")
    @classmethod
    def _spell_depth(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("depth") is None:
            return given
        depth = given["depth"]
        if "compositions" in given:
            raise SpaceError("give `depth` or `compositions`, not both")
        if not isinstance(depth, int) or isinstance(depth, bool) or not 0 <= depth <= MAX_DEPTH:
            raise SpaceError(f"depth is {depth!r}; allowed: 0 (one module) to {MAX_DEPTH} ({MAX_DEPTH + 1} joined)")
        rest = {key: value for key, value in given.items() if key != "depth"}
        return {**rest, "compositions": usual_compositions(depth)}


class Override(_WithDepth):
    """Other choices at some slots; of two overrides of one slot, the later one holds.

    Attributes:
        slots: As in `Space`.
        compositions: In place of the space's own.
        variants: In place of the space's own.
        distinct_properties: In place of the space's own.
    """

    word: ClassVar[str] = "slot override"

    slots: SlotsWritten
    compositions: Many[str] = ()
    variants: _Variants = ()
    distinct_properties: bool | None = None


class Space(_WithDepth):
    """A space, as in `search_spaces/*.yaml`.

    It has `variants`, or is made of other spaces by `base`, `union` or `product`; any of them can be narrowed by `only`
    and `quotas`. Spaces are united by `a | b`, multiplied by `a * b`, and restricted by `a.restrict(...)`.

    Attributes:
        name: Its name.
        description: One line for `nasbench spaces`.
        example_backbone: The backbone that `nasbench spaces` counts it in.
        slots: Slot names, shell patterns or selectors; `stages` means every stage slot. A name must exist in the
            backbone, a pattern is taken where it matches.
        compositions: `none`, and templates over the letters a, b, c, d (`a`, `a >> b`, `gate(a, b)`). `depth: 1` stands
            for the usual ones of up to two variants, `depth: 2` of three.
        variants: Expressions, or selectors by what modules declare.
        distinct_properties: A composition of variants that all declare the same properties is reduced to its first.
        overrides: Other compositions or variants at some slots.
        base: A space that is narrowed.
        union: Spaces: every plan of each, exactly; nothing that mixes them.
        product: Spaces with slots of their own, side by side: every plan of one with every plan of the others.
        only: What the plans may use at all.
        quotas: Bounds on what each plan holds.

    Example:
        >>> Space.from_dict({"variants": [{"property": "sparsity", "dims": 2}], "depth": 1}).compositions
        ('none', 'a', 'a >> b', 'a + b', 'gate(a, b)')
    """

    name: str = "unnamed"
    description: str = ""
    example_backbone: str = ""
    slots: SlotsWritten = ("stages",)
    compositions: Many[str] = ("none", "a")
    variants: _Variants = ()
    distinct_properties: bool = False
    overrides: Many[Override] = ()
    base: _SpaceWritten | None = None
    union: Many[_SpaceWritten] = ()
    product: Many[_SpaceWritten] = ()
    only: Restriction | None = None
    quotas: Many[Quota] = ()

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], origin: str = "space", **context: Any) -> Space:
        """Read a space from a mapping.

        Args:
            given: The mapping; spaces in it are names, files or mappings.
            origin: What it is called in messages.
            **context: Where it was read from, for the spaces it names.

        Raises:
            SpaceError: If a key, value, expression or name is wrong; says which.
        """
        try:
            return cls.model_validate(given, context=context)
        except ValidationError as error:
            raise SpaceError(f"{origin}: {explain(error)}") from None
        except RecursionError:
            raise SpaceError(f"{origin}: spaces are nested too deep") from None

    @model_validator(mode="after")
    def _check(self) -> Space:
        self._check_form()
        self._own_variants()
        for composition in (*self.compositions, *(c for each in self.overrides for c in each.compositions)):
            parse(composition, dict.fromkeys(LETTERS, parse("se")))
        return self

    def _check_form(self) -> None:
        forms = [key for key in ("base", "union", "product") if getattr(self, key)]
        if self.variants or any(each.variants for each in self.overrides):
            forms.append("variants")
        if len(forms) != 1:
            given = f"has {' and '.join(forms)}" if forms else "has none of them"
            raise SpaceError(f"a space holds either variants, or base, union or product; this one {given}")
        own = {"slots", "compositions", "distinct_properties", "overrides"} & self.model_fields_set
        if forms != ["variants"] and own:
            raise SpaceError(
                f"{sorted(own)[0]} belongs to a space with variants; one of spaces is narrowed by `only` and `quotas`"
            )

    @property
    def parts(self) -> tuple[Space, ...]:
        """The spaces it is made of."""
        return (*((self.base,) if self.base else ()), *self.union, *self.product)

    def expand(self) -> list[Expression]:
        """Return every variant the space names or selects anywhere, each once."""
        return list(dict.fromkeys([*self._own_variants(), *(v for part in self.parts for v in part.expand())]))

    def _own_variants(self) -> list[Expression]:
        return expand([*self.variants, *(variant for each in self.overrides for variant in each.variants)])

    def resolve(self, slots: Sequence[SlotLike]) -> ResolvedSpace:
        """Fit the space to a backbone.

        Args:
            slots: The backbone's slots (`nasbench.slots`).

        Raises:
            SpaceError: If a slot does not exist, no variant fits any, or no plan is left.
        """
        return _resolving.resolve(self, slots)

    def restrict(self, **only: Any) -> Space:
        """Return the space of those plans that use nothing but what is given.

        Args:
            **only: As in `only` of a file: slots, modules, exclude, property, family, exclude_family, dims,
                min_cost_order, max_cost_order. Every module of a plan must meet all; cost orders are asked of fusions
                too.

        Raises:
            SpaceError: If a key or value is wrong.

        Example:
            >>> mild = Space.from_dict({"variants": ["se", "self_attention"]}).restrict(max_cost_order=1)
        """
        return Space.from_dict({"name": f"{self.name}, restricted", "base": self, "only": only})

    def with_quotas(self, *quotas: Mapping[str, Any]) -> Space:
        """Return the space of those plans that are within quotas, each as in a file.

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
        """Return what the flat choices of a resolved space do not tell of it, as JSON-able data; {} where they do."""
        found: dict[str, Any] = {}
        if self.only:
            found["only"] = self.only.model_dump(mode="json")
        if self.quotas:
            found["quotas"] = [quota.model_dump(mode="json") for quota in self.quotas]
        if self.union:
            found["union"] = [_unnamed(part.model_dump(mode="json")) for part in self.union]
        inner = [part.narrowing() for part in self.parts if not self.union]
        return found | ({"parts": inner} if any(inner) else {})


def _unnamed(written: Any) -> Any:
    """Leave out what only people read."""
    if isinstance(written, list):
        return [_unnamed(each) for each in written]
    if not isinstance(written, dict):
        return written
    return {k: _unnamed(v) for k, v in written.items() if k not in ("name", "description", "example_backbone")}
