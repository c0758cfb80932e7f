"""Fit a space to the slots of a backbone: the variants left at each slot, and the rule that joins the slots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nasbench.errors import SpaceError, UnsupportedError
from nasbench.library.expression import Expression
from nasbench.spaces._choices import SlotChoices, join
from nasbench.spaces._compositions import skeleton
from nasbench.spaces._filters import Selector, expand
from nasbench.spaces._overrides import Override
from nasbench.spaces._quotas import Quota, Restriction
from nasbench.spaces._rules import AllOf, AnyOf, Chosen, Counted, Only, Rule, SideBySide
from nasbench.spaces._slots import SlotLike, SlotSelector, choose_slots

__all__ = ["Excluded", "Fitted", "Offer", "bound", "fit_variants", "multiply", "restrict", "unite"]

Excluded = tuple[str, str, str]
"""The name of a slot, a variant or composition that does not fit there, and the reason."""


@dataclass(frozen=True)
class Offer:
    """What a space offers at a slot of any backbone. The attributes are those of `Space`."""

    variants: tuple[str | Selector, ...]
    compositions: tuple[str, ...]
    distinct_properties: bool

    def overridden(self, by: Override) -> Offer:
        """Return the offer in which the values of an override replace the space's own."""
        distinct = self.distinct_properties if by.distinct_properties is None else by.distinct_properties
        return Offer(by.variants or self.variants, by.compositions or self.compositions, distinct)


@dataclass(frozen=True)
class Fitted:
    """The choices at the slots of a backbone, in network order, and the rule that admits plans."""

    choices: tuple[SlotChoices, ...]
    rule: Rule
    excluded: tuple[Excluded, ...]


def fit_variants(
    name: str,
    offer: Offer,
    written: Sequence[str | SlotSelector],
    overrides: Sequence[Override],
    slots: Sequence[SlotLike],
) -> Fitted:
    """Fit a space of variants.

    Args:
        name: The space's name, for messages.
        offer: What the space offers at each of its slots.
        written: The space's slots, as written.
        overrides: Other offers at some slots. Of two for the same slot the later one applies.
        slots: The backbone's slots.

    Raises:
        SpaceError: If a slot does not exist, no composition fits one of the slots, or no variant fits any of them.
    """
    chosen = choose_slots(written, slots, f"space {name}")
    offers = {slot.name: offer for slot in chosen}
    for override in overrides:
        for slot in choose_slots(override.slots, chosen, f"space {name}: overrides", optional=True):
            offers[slot.name] = offers[slot.name].overridden(override)
    fits = _Fits()
    choices: list[SlotChoices] = []
    excluded: list[Excluded] = []
    for slot in chosen:
        here = offers[slot.name]
        variants = [v for v in expand(here.variants) if fits(v, v.canonical(), slot, excluded)]
        compositions = [c for c in here.compositions if fits(skeleton(c), c, slot, excluded)]
        if not compositions:
            raise SpaceError(f"space {name}: no composition fits slot {slot.name}: {excluded[-1][2]}")
        choices.append(SlotChoices(slot.name, tuple(compositions), tuple(variants), here.distinct_properties))
    if not any(at_slot.variants for at_slot in choices):
        reason = f"first reason: {excluded[0][2]}" if excluded else "none is given"
        raise SpaceError(f"space {name}: no variant fits this backbone; {reason}")
    return Fitted(tuple(choices), Chosen(choices), tuple(excluded))


class _Fits:
    """Decide whether an expression can be built at a slot, once for all slots of the same channels and dimensions."""

    def __init__(self) -> None:
        self._refused: dict[tuple[Expression, int, int, bool], str | None] = {}

    def __call__(self, expression: Expression, text: str, slot: SlotLike, excluded: list[Excluded]) -> bool:
        key = (expression, slot.channels, slot.dims, slot.rows_are_series)
        if key not in self._refused:
            self._refused[key] = _refusal(*key)
        reason = self._refused[key]
        if reason is not None:
            excluded.append((slot.name, text, reason))
        return reason is None


def _refusal(expression: Expression, channels: int, dims: int, rowwise: bool) -> str | None:
    """Return why an expression cannot be built for such a slot, or None if it can."""
    import torch  # not at the top, because reading or writing a space needs no torch

    from nasbench.library.building import build

    try:
        with torch.device("meta"):  # checks the arguments without allocating or initialising a weight
            build(expression, channels=channels, dims=dims, rowwise=rowwise)
    except UnsupportedError as error:
        return str(error)
    return None


def unite(parts: Sequence[Fitted], slots: Sequence[SlotLike]) -> Fitted:
    """Fit a union: every plan of each part, and no plan that mixes parts."""
    # The joined choices can also form plans that mix parts. The rule excludes them.
    at: dict[str, list[SlotChoices]] = {}
    for part in parts:
        for choices in part.choices:
            at.setdefault(choices.slot, []).append(choices)
    joined = tuple(
        _with_empty(join(at[slot.name]), len(at[slot.name]) < len(parts)) for slot in slots if slot.name in at
    )
    return Fitted(joined, AnyOf([part.rule for part in parts], _read(parts, slots)), _all_excluded(parts))


def _with_empty(choices: SlotChoices, needed: bool) -> SlotChoices:
    """Add the composition `none` if it is needed, because a part of a union leaves the slot empty."""
    if not needed or "none" in choices.compositions:
        return choices
    return SlotChoices(choices.slot, ("none", *choices.compositions), choices.variants, choices.distinct_properties)


def multiply(name: str, parts: Sequence[Fitted], slots: Sequence[SlotLike]) -> Fitted:
    """Fit a product: every plan of one part combined with every plan of the others.

    Raises:
        SpaceError: If two parts fill the same slot.
    """
    at: dict[str, SlotChoices] = {}
    for part in parts:
        for choices in part.choices:
            if choices.slot in at:
                raise SpaceError(
                    f"space {name}: two spaces of the product fill slot {choices.slot}; restrict one of them"
                )
            at[choices.slot] = choices
    rules = [(part.rule, frozenset(choices.slot for choices in part.choices)) for part in parts]
    ordered = tuple(at[slot.name] for slot in slots if slot.name in at)
    return Fitted(ordered, SideBySide(rules, _read(parts, slots)), _all_excluded(parts))


def restrict(name: str, fitted: Fitted, only: Restriction, slots: Sequence[SlotLike]) -> Fitted:
    """Restrict a fitted space to the plans that use only what is allowed.

    Raises:
        SpaceError: If the restriction names a slot that the fitted space lacks.
    """
    there = [slot for slot in slots if slot.name in {choices.slot for choices in fitted.choices}]
    fillable = frozenset(slot.name for slot in choose_slots(only.slots, there, f"space {name}: only"))
    rule = AllOf([fitted.rule, Only(fitted.rule.slots, only, fillable)])
    # A slot that must stay empty needs no parameters.
    narrowed = tuple(_narrowed(choices, only) for choices in fitted.choices if choices.slot in fillable)
    excluded = tuple(row for row in fitted.excluded if row[0] in fillable)
    return Fitted(narrowed, rule, excluded)


def _narrowed(choices: SlotChoices, only: Restriction) -> SlotChoices:
    """Remove variants and compositions that no plan can use any more.

    A composition with a forbidden fusion stays if nothing else gives a single variant. It is reduced to a single
    variant if its variants declare the same properties.
    """
    variants = tuple(v for v in choices.variants if only.admits(v))
    compositions = tuple(c for c in choices.fillable if only.admits(skeleton(c)))
    # The shorter list of compositions is used only if it still gives every allowed expression.
    wanted = [e for e in choices.combinations.expressions if only.admits(e)]
    shorter = SlotChoices(choices.slot, compositions, variants, choices.distinct_properties)
    if compositions and all(e in shorter.combinations for e in wanted):
        return shorter
    return SlotChoices(choices.slot, choices.compositions, variants, choices.distinct_properties)


def bound(name: str, fitted: Fitted, quotas: Iterable[Quota], slots: Sequence[SlotLike]) -> Fitted:
    """Restrict a fitted space to the plans within the quotas.

    Raises:
        SpaceError: If a quota names a slot that the fitted space lacks.
    """
    there = [slot for slot in slots if slot.name in {choices.slot for choices in fitted.choices}]
    counted = [choose_slots(quota.slots, there, f"space {name}: quotas", optional=True) for quota in quotas]
    places = [frozenset(slot.name for slot in each) for each in counted]
    rule = AllOf([fitted.rule, Counted(tuple(quotas), places, fitted.choices)])
    return Fitted(fitted.choices, rule, fitted.excluded)


def _read(parts: Sequence[Fitted], slots: Sequence[SlotLike]) -> tuple[str, ...]:
    """Return every slot that the rule of a part reads, in network order."""
    read = {name for part in parts for name in part.rule.slots}
    return tuple(slot.name for slot in slots if slot.name in read)


def _all_excluded(parts: Sequence[Fitted]) -> tuple[Excluded, ...]:
    return tuple(dict.fromkeys(row for part in parts for row in part.excluded))
