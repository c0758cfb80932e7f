"""The categorical choices at one slot of a search space that was fitted to a backbone (a resolved space)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from nasbench.library.expression import Expression, parse
from nasbench.spaces._compositions import LETTERS, Combinations, Setting, combine, declared, letters_of

__all__ = ["SlotChoices", "join"]


@dataclass(frozen=True)
class SlotChoices:
    """The choices at one slot of a resolved space.

    Attributes:
        slot: The slot's name.
        compositions: Templates such as `a >> b`. Each letter stands for one variant, which is chosen separately.
        variants: The expressions for which a letter can stand.
        distinct_properties: Whether a composition is reduced to its first variant if all its variants declare the same
            properties.
    """

    slot: str
    compositions: tuple[str, ...]
    variants: tuple[Expression, ...]
    distinct_properties: bool = False

    @property
    def letters(self) -> str:
        """The letters that the compositions use."""
        used = {letter for template in self.compositions for letter in letters_of(template)}
        return "".join(letter for letter in LETTERS if letter in used)

    @cached_property
    def parameters(self) -> dict[str, tuple[str, ...]]:
        """The categorical choices, by parameter name (`stage1.composition`, `stage1.a`, `stage1.b`)."""
        # A categorical choice needs at least one value, even if the slot has no variant to choose from.
        texts = tuple(variant.canonical() for variant in self.variants) or ("none",)
        named = {f"{self.slot}.{letter}": texts for letter in self.letters}
        return {f"{self.slot}.composition": self.fillable} | named

    @cached_property
    def combinations(self) -> Combinations:
        """All distinct expressions of the slot. Slots with the same choices share this object."""
        return combine(self.fillable, self.variants, self.distinct_properties)

    @property
    def fillable(self) -> tuple[str, ...]:
        """The compositions that can be filled. Without variants, these are the ones without letters, or `none`."""
        if self.variants:
            return self.compositions
        return tuple(c for c in self.compositions if not letters_of(c)) or ("none",)

    def expression(self, params: Mapping[str, str]) -> Expression:
        """Return the canonical expression that one setting of the parameters gives."""
        template = params[f"{self.slot}.composition"]
        # Only the letters of the template are read. A sampler also sets letters that the template does not use.
        bound = {letter: parse(params[f"{self.slot}.{letter}"]) for letter in letters_of(template)}
        if self.distinct_properties and len(bound) > 1 and len({declared(e) for e in bound.values()}) == 1:
            return next(iter(bound.values()))
        return parse(template, bound)

    def setting(self, expression: Expression) -> dict[str, str] | None:
        """Return a setting of the parameters that gives an expression, or None if there is none."""
        known = self.combinations.settings.get(expression)
        return None if known is None else self._as_parameters(known[0])

    @cached_property
    def options(self) -> dict[Expression, dict[str, str]]:
        """All distinct expressions of the slot, each with a setting of the parameters that gives it."""
        return {e: self._as_parameters(settings[0]) for e, settings in self.combinations.settings.items()}

    def _as_parameters(self, setting: Setting) -> dict[str, str]:
        """Return a value for each parameter. A letter that the composition does not use gets the first variant."""
        template, chosen = setting
        first = {name: choices[0] for name, choices in self.parameters.items()}
        bound = {
            f"{self.slot}.{letter}": self.variants[i].canonical()
            for letter, i in zip(letters_of(template), chosen, strict=True)
        }
        return first | {f"{self.slot}.composition": template} | bound


def join(choices: Iterable[SlotChoices]) -> SlotChoices:
    """Return the union of several choices at one slot: all their compositions and all their variants."""
    several = list(choices)
    compositions = list(dict.fromkeys(c for slot_choices in several for c in slot_choices.fillable))
    variants = tuple(dict.fromkeys(v for slot_choices in several for v in slot_choices.variants))
    reducing = {slot_choices.distinct_properties for slot_choices in several}
    # The joined choices reduce compositions only if all of the given choices do. If only some do, these can reduce a
    # composition to a single variant. The joined choices can express this variant only with the composition `a`.
    if reducing == {True, False} and "a" not in compositions:
        compositions.append("a")
    return SlotChoices(several[0].slot, tuple(compositions), variants, reducing == {True})
