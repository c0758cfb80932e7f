"""The set of plans a search may draw from: the `Space` a person writes, and the same resolved for a backbone.

A slot of a space is a few categorical choices (a composition such as `gate(a, b)`, then one variant for each of its
letters), always all asked for, so that every sampler sees a flat space without conditionals. What a composition does
not use is ignored and disappears in the canonical form: plans are counted, enumerated and drawn as distinct plans.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from nasbench import builtin
from nasbench.errors import InputError, SpaceError, UnknownNameError, UnsupportedError
from nasbench.expression import NONE, Expression, build, parse
from nasbench.library import module_specs
from nasbench.plan import Plan, is_stage_slot

__all__ = ["ResolvedSpace", "Selector", "SlotChoices", "SlotLike", "Space", "list_spaces", "load_space"]

LETTERS = "abcd"
"""The letters of a composition, each standing for one variant."""

_MAX_FILE_BYTES = 1_000_000


class SlotLike:
    """What a space needs to know of a slot: `nasbench.backbones.Slot` has it all."""

    name: str
    channels: int
    dims: int


class Selector(BaseModel):
    """Variants chosen by what modules declare, so that a user's own modules join in.

    Attributes:
        property: Modules that declare this property.
        pattern: Shell pattern on the name.
        cost_order: Highest cost order allowed.
        exclude: Names left out.
        values: "default", or "all" for the defaults and each search value one at a time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    property: str | None = None
    pattern: str = "*"
    cost_order: int = 2
    exclude: tuple[str, ...] = ()
    values: Annotated[str, StringConstraints(pattern="^(default|all)$")] = "default"

    def variants(self) -> list[Expression]:
        """Return the variants it selects now, by name."""
        chosen = [
            spec
            for spec in module_specs(self.pattern, property=self.property, kind="module")
            if spec.cost_order <= self.cost_order and spec.name not in self.exclude
        ]
        texts = [spec.name for spec in chosen]
        if self.values == "all":
            texts += [
                f"{s.name}({key}={value!r})" for s in chosen for key, values in s.space.items() for value in values
            ]
        return list(dict.fromkeys(parse(text) for text in texts))


class Space(BaseModel):
    """A space as written in `search_spaces/*.yaml`.

    Attributes:
        name: Its name.
        description: One line for `nasbench spaces`.
        slots: Slot names or shell patterns; `stages` means every stage slot.
        compositions: `none`, and templates over the letters a, b, c, d (`a`, `a >> b`, `gate(a, b)`).
        variants: Expressions, or selectors by declared property.
        distinct_properties: A composition of variants that all declare the same properties is reduced to its first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "unnamed"
    description: str = ""
    slots: tuple[str, ...] = ("stages",)
    compositions: tuple[str, ...] = ("none", "a")
    variants: tuple[str | Selector, ...] = Field(min_length=1)
    distinct_properties: bool = False

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], origin: str = "space") -> Space:
        """Read a space from a mapping.

        Raises:
            SpaceError: If a key or value is wrong; names it.
            InputError: If a variant or composition is no expression.
        """
        try:
            space = cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "space"
            raise SpaceError(f"{origin}: {where}: {first['msg']} (keys: {', '.join(cls.model_fields)})") from None
        space.check(origin)
        return space

    def check(self, origin: str) -> None:
        """Raise `SpaceError` naming `origin` where a variant or composition cannot be read."""
        try:
            self.expand()
            for template in self.compositions:
                letters = dict.fromkeys(LETTERS, parse("se"))
                parse(template, letters)
        except InputError as error:
            raise SpaceError(f"{origin}: {error}") from None

    def expand(self) -> list[Expression]:
        """Return every variant the space names or selects, each once."""
        found: list[Expression] = []
        for variant in self.variants:
            found += variant.variants() if isinstance(variant, Selector) else [parse(variant)]
        return list(dict.fromkeys(found))

    def resolve(self, slots: Sequence[Any]) -> ResolvedSpace:
        """Fit the space to a backbone.

        Args:
            slots: The backbone's slots (`nasbench.slots`).

        Raises:
            SpaceError: If no slot of the backbone matches, or no variant fits any.
        """
        chosen = [slot for slot in slots if self._names(slot.name, slots)]
        if not chosen:
            raise SpaceError(
                f"space {self.name}: no slot matches {', '.join(self.slots)}; "
                f"the backbone has {', '.join(slot.name for slot in slots) or 'none'}"
            )
        variants, excluded, fits = self.expand(), [], {}
        for slot in chosen:
            if (slot.channels, slot.dims) not in fits:
                fits[slot.channels, slot.dims] = _fitting(variants, slot.channels, slot.dims)
            excluded += [(slot.name, text, reason) for text, reason in fits[slot.channels, slot.dims][1].items()]
        choices = tuple(
            SlotChoices(
                slot.name, self.compositions, tuple(fits[slot.channels, slot.dims][0]), self.distinct_properties
            )
            for slot in chosen
        )
        if not any(choice.variants for choice in choices):
            raise SpaceError(f"space {self.name}: no variant fits this backbone; first reason: {excluded[0][2]}")
        return ResolvedSpace(self, choices, tuple(excluded))

    def _names(self, slot: str, slots: Sequence[Any]) -> bool:
        staged = [s.name for s in slots if is_stage_slot(s.name)]
        for pattern in self.slots:
            if pattern == "stages" and (is_stage_slot(slot) or not staged):
                return True
            if fnmatch.fnmatchcase(slot, pattern):
                return True
        return False


@dataclass(frozen=True)
class SlotChoices:
    """The choices at one slot of a resolved space.

    Attributes:
        slot: The slot's name.
        compositions: Templates over the letters.
        variants: The variants that fit the slot.
        distinct_properties: As in `Space`.
    """

    slot: str
    compositions: tuple[str, ...]
    variants: tuple[Expression, ...]
    distinct_properties: bool = False

    @property
    def letters(self) -> str:
        """The letters that the compositions use."""
        used = {letter for template in self.compositions for letter in _letters(template)}
        return "".join(letter for letter in LETTERS if letter in used)

    @cached_property
    def parameters(self) -> dict[str, tuple[str, ...]]:
        """The categorical choices, by parameter name (`stage1.composition`, `stage1.a`, `stage1.b`)."""
        texts = tuple(variant.canonical() for variant in self.variants) or ("none",)
        named = {f"{self.slot}.{letter}": texts for letter in self.letters}
        compositions = self.compositions if self.variants else ("none",)
        return {f"{self.slot}.composition": compositions} | named

    def expression(self, params: Mapping[str, str]) -> Expression:
        """Return the canonical expression of one setting of the parameters."""
        template = params[f"{self.slot}.composition"]
        letters = _letters(template)
        return self._compose(template, {letter: parse(params[f"{self.slot}.{letter}"]) for letter in letters})

    @cached_property
    def options(self) -> dict[Expression, dict[str, str]]:
        """Every distinct expression of the slot, with one setting of the parameters that gives it."""
        found: dict[Expression, dict[str, str]] = {}
        defaults = {name: choices[0] for name, choices in self.parameters.items()}
        for template in self.parameters[f"{self.slot}.composition"]:
            letters = _letters(template)
            for chosen in itertools.product(self.variants, repeat=len(letters)):
                bound = dict(zip(letters, chosen, strict=True))
                expression = self._compose(template, bound)
                setting = {f"{self.slot}.{letter}": variant.canonical() for letter, variant in bound.items()}
                found.setdefault(expression, defaults | {f"{self.slot}.composition": template} | setting)
        return found

    def _compose(self, template: str, bound: Mapping[str, Expression]) -> Expression:
        if self.distinct_properties and len(bound) > 1 and len({_declared(e) for e in bound.values()}) == 1:
            return next(iter(bound.values()))
        return parse(template, bound)


@dataclass(frozen=True)
class ResolvedSpace:
    """A space fitted to one backbone: distinct plans can be counted, drawn and enumerated.

    Attributes:
        space: What it was resolved from.
        slots: The choices, slot by slot in network order.
        excluded: (slot, variant, reason) of each variant that does not fit.
    """

    space: Space
    slots: tuple[SlotChoices, ...]
    excluded: tuple[tuple[str, str, str], ...] = field(default=())

    @cached_property
    def parameters(self) -> dict[str, tuple[str, ...]]:
        """All categorical choices, in slot order: the flat space a sampler sees."""
        return {name: choices for slot in self.slots for name, choices in slot.parameters.items()}

    def plan(self, params: Mapping[str, str]) -> Plan:
        """Return the plan that one setting of the parameters stands for."""
        return Plan({slot.slot: slot.expression(params) for slot in self.slots})

    def params(self, plan: Plan) -> dict[str, str] | None:
        """Return one setting of the parameters that gives `plan`; None if the plan is not in the space."""
        if set(plan) - {slot.slot for slot in self.slots}:
            return None
        settings = [slot.options.get(plan.get(slot.slot, NONE)) for slot in self.slots]
        if any(setting is None for setting in settings):
            return None
        return {name: value for setting in settings for name, value in (setting or {}).items()}

    @cached_property
    def count(self) -> int:
        """The exact number of distinct plans."""
        return math.prod(len(slot.options) for slot in self.slots)

    def __iter__(self) -> Iterator[Plan]:
        """Enumerate every distinct plan."""
        for chosen in itertools.product(*[list(slot.options) for slot in self.slots]):
            yield Plan({slot.slot: e for slot, e in zip(self.slots, chosen, strict=True)})

    def sample(self, rng: random.Random) -> Plan:
        """Draw one plan, uniformly over distinct plans."""
        return Plan({slot.slot: rng.choice(list(slot.options)) for slot in self.slots})

    def sample_unseen(self, rng: random.Random, seen: Iterable[str]) -> Plan | None:
        """Draw one plan whose hash is not in `seen`, uniformly over those; None where all were seen."""
        seen = set(seen)
        if len(seen) * 2 < self.count:  # rejection takes two draws on average at most
            while (plan := self.sample(rng)).hash in seen:
                pass
            return plan
        unseen = [plan for plan in self if plan.hash not in seen]
        return rng.choice(unseen) if unseen else None


def list_spaces() -> list[str]:
    """List the names of the ready-made spaces and those of the project's own `search_spaces/`, sorted."""
    return sorted(_files())


def load_space(given: str | Path | Mapping[str, Any] | Space) -> Space:
    """Load a space by name, from a YAML file, or from a mapping.

    Raises:
        UnknownNameError: If no space has the name.
        SpaceError: If the file is malformed.
    """
    if isinstance(given, Space):
        return given
    if isinstance(given, Mapping):
        return Space.from_dict(given)
    files = _files()
    path = files.get(str(given), Path(given))
    if str(given) not in files and path.suffix not in (".yaml", ".yml"):
        raise UnknownNameError("space", str(given), files, "or the path of a .yaml file")
    return _read(path)


def _files() -> dict[str, Path]:
    folders = [builtin.content_folder("search_spaces"), Path("search_spaces")]
    return {file.stem: file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*.yaml"))}


def _read(path: Path) -> Space:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise SpaceError(f"{path} has more than {_MAX_FILE_BYTES:,} bytes: no space file is that long")
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpaceError(f"cannot read space {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SpaceError(f"{path} is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(given, dict):
        raise SpaceError(f"{path} must hold a mapping with the keys {', '.join(Space.model_fields)}")
    return Space.from_dict({"name": path.stem, **given}, origin=str(path))


def _letters(template: str) -> list[str]:
    words = re.findall(r"[A-Za-z_]\w*", template)
    return [letter for letter in LETTERS if letter in words]


def _declared(expression: Expression) -> frozenset[str]:
    return frozenset(name for spec in expression.specs() for name in spec.properties)


def _fitting(variants: list[Expression], channels: int, dims: int) -> tuple[list[Expression], dict[str, str]]:
    """Split variants into those that can be built for such a slot and, with the reason, those that cannot."""
    kept, refused = [], {}
    with torch.device("meta"):
        for variant in variants:
            try:
                build(variant, channels=channels, dims=dims)
                kept.append(variant)
            except UnsupportedError as error:
                refused[variant.canonical()] = str(error)
    return kept, refused
