"""Fit a space to the slots of a backbone: the variants that fit each slot, and the rule that admits plans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nasbench.errors import SpaceError, UnknownNameError, UnsupportedError
from nasbench.library.expression import NONE, Expression
from nasbench.library.plan import Plan, is_reached
from nasbench.library.surroundings import surroundings_kept
from nasbench.spaces._choices import SlotChoices, join
from nasbench.spaces._compositions import skeleton
from nasbench.spaces._filters import Selector, expand
from nasbench.spaces._overrides import Override
from nasbench.spaces._quotas import Quota, Restriction
from nasbench.spaces._rules import AllOf, AnyOf, Chosen, Counted, Listed, Only, Reached, Rule, Same, SideBySide
from nasbench.spaces._slots import SlotLike, SlotSelector, choose_slots

__all__ = [
    "Excluded", "Fitted", "Offer", "bound", "fit_plans", "fit_variants", "multiply", "necks_of", "reached", "restrict",
    "unite",
]  # fmt: skip

Excluded = tuple[str, str, str]
"""The name of a slot, the text of a variant or composition that does not fit the slot, and the reason."""


@dataclass(frozen=True)
class Offer:
    """The choices that a space offers at a slot, before it is fitted. The attributes are those of `Space`."""

    variants: tuple[str | Selector, ...]
    compositions: tuple[str, ...]
    distinct_properties: bool

    def overridden(self, by: Override) -> Offer:
        """Return a copy of the offer in which the values of an override replace the values of the space."""
        distinct = self.distinct_properties if by.distinct_properties is None else by.distinct_properties
        return Offer(by.variants or self.variants, by.compositions or self.compositions, distinct)


@dataclass(frozen=True)
class Fitted:
    """The choices at the slots of a backbone, in network order, and the rule that admits plans.

    `same` contains groups of slots that always have the same expression, as in `PlanSet`.
    """

    choices: tuple[SlotChoices, ...]
    rule: Rule
    excluded: tuple[Excluded, ...]
    same: tuple[tuple[str, ...], ...] = ()


def fit_variants(
    name: str,
    offer: Offer,
    written: Sequence[str | SlotSelector],
    overrides: Sequence[Override],
    slots: Sequence[SlotLike],
    *,
    same: bool = False,
) -> Fitted:
    """Fit a space of variants.

    Args:
        name: The space's name, for messages.
        offer: The choices at each slot of the space.
        written: The slots of the space, as a person wrote them.
        overrides: Other choices at some slots. If two overrides are for the same slot, the later one applies.
        slots: The backbone's slots.
        same: Whether all slots have the same expression. The variants must then fit all slots.

    Raises:
        SpaceError: If a slot does not exist, if no composition fits one of the slots, or if no variant fits any slot.
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
        reason = f"first reason: {excluded[0][2]}" if excluded else "it has no variant"
        raise SpaceError(f"space {name}: no variant fits this backbone; {reason}")
    if same and len(choices) > 1:
        return _one_choice(name, choices, tuple(excluded))
    return Fitted(tuple(choices), Chosen(choices), tuple(excluded))


def _one_choice(name: str, choices: Sequence[SlotChoices], excluded: tuple[Excluded, ...]) -> Fitted:
    """Fit one common choice to several slots. It has the variants and compositions that fit all of these slots."""

    def shared(field: str) -> tuple[Any, ...]:
        return tuple(v for v in getattr(choices[0], field) if all(v in getattr(each, field) for each in choices))

    compositions, variants = shared("compositions"), shared("variants")
    if not compositions or not variants:
        reason = f"; first reason: {excluded[0][0]}: {excluded[0][2]}" if excluded else ""
        raise SpaceError(
            f"space {name}: {', '.join(each.slot for each in choices)} must have the same expression (same: true), but "
            f"none fits all of them{reason}"
        )
    equal = tuple(replace(each, compositions=compositions, variants=variants) for each in choices)
    return Fitted(equal, Same(equal), excluded, (tuple(each.slot for each in equal),))


class _Fits:
    """Check whether an expression can be built at a slot. Slots with the same channels and dimensions share a check."""

    def __init__(self) -> None:
        self._refused: dict[tuple[Expression, int | tuple[int, ...], int, bool], str | None] = {}

    def __call__(self, expression: Expression, text: str, slot: SlotLike, excluded: list[Excluded]) -> bool:
        key = (expression, slot.levels or slot.channels, slot.dims, slot.rows_are_series)
        if key not in self._refused:
            self._refused[key] = _refusal(*key)
        reason = self._refused[key]
        if reason is not None:
            excluded.append((slot.name, text, reason))
        return reason is None


def _refusal(expression: Expression, channels: int | tuple[int, ...], dims: int, rowwise: bool) -> str | None:
    """Return why an expression cannot be built for such a slot, or None if it can be built."""
    import torch  # not at the top, because reading or writing a space needs no torch

    from nasbench.library.building import build

    try:
        with (
            surroundings_kept(),
            torch.device("meta"),
        ):  # this checks the arguments without allocating or initialising weights
            build(expression, channels=channels, dims=dims, rowwise=rowwise)
    except UnsupportedError as error:
        return str(error)
    except (Exception, SystemExit):
        # The code of a module can raise any error, perhaps only on the meta device. If the evaluation of a plan raises
        # the error again, it is recorded as the reason why the plan failed.
        return None
    return None


def fit_plans(plans: Sequence[Plan], slots: Sequence[SlotLike]) -> Fitted:
    """Fit a list of plans.

    Raises:
        SpaceError: If a plan names a slot that does not exist, or if a module does not fit its slot. The message names
            the plan.
    """
    named, fits = {slot.name: slot for slot in slots}, _Fits()
    resolved: list[Plan] = []
    refused: list[Excluded] = []
    for plan in plans:
        try:
            resolved.append(plan.resolve([name for name, slot in named.items() if is_reached(slot, plan.neck)]))
        except UnknownNameError as error:
            raise SpaceError(f"plan {plan.typed}: {error}") from None
        for at, expression in resolved[-1].items():
            if not fits(expression, expression.canonical(), named[at], refused):
                raise SpaceError(f"plan {plan.typed} does not fit slot {at}: {refused[-1][2]}")
    distinct = list(dict.fromkeys(resolved))
    filled = [slot.name for slot in slots if any(slot.name in plan for plan in distinct)]
    choices = []
    for at in filled:
        held = dict.fromkeys(plan[at] for plan in distinct if at in plan)
        compositions = ("a",) if all(at in plan for plan in distinct) else ("none", "a")
        choices.append(SlotChoices(at, compositions, tuple(held)))
    return Fitted(tuple(choices), Listed(tuple(filled), distinct), ())


def unite(parts: Sequence[Fitted], slots: Sequence[SlotLike]) -> Fitted:
    """Fit a union. It has every plan of each part, but no plan that mixes parts."""
    # The joined choices can also form plans that mix parts. The rule excludes them.
    at: dict[str, list[SlotChoices]] = {}
    for part in parts:
        for choices in part.choices:
            at.setdefault(choices.slot, []).append(choices)
    joined = tuple(
        _with_empty(join(at[slot.name]), len(at[slot.name]) < len(parts)) for slot in slots if slot.name in at
    )
    # In a union, slots always have the same expression only if this holds in every part.
    same = tuple(group for group in parts[0].same if all(group in part.same for part in parts))
    return Fitted(joined, AnyOf([part.rule for part in parts], _read(parts, slots)), _all_excluded(parts), same)


def _with_empty(choices: SlotChoices, needed: bool) -> SlotChoices:
    """Add the composition `none` if a part of a union leaves the slot empty."""
    if not needed or "none" in choices.compositions:
        return choices
    return SlotChoices(choices.slot, ("none", *choices.compositions), choices.variants, choices.distinct_properties)


def multiply(name: str, parts: Sequence[Fitted], slots: Sequence[SlotLike]) -> Fitted:
    """Fit a product. Every plan of one part is combined with every plan of the other parts.

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
    kept = tuple(at[slot.name] for slot in slots if slot.name in at)
    same = tuple(group for part in parts for group in part.same)
    return Fitted(kept, SideBySide(rules, _read(parts, slots)), _all_excluded(parts), same)


def restrict(name: str, fitted: Fitted, only: Restriction, slots: Sequence[SlotLike]) -> Fitted:
    """Restrict a fitted space to the plans that use only allowed slots, modules and fusions.

    Raises:
        SpaceError: If the restriction names a slot that the fitted space does not have, or if it allows only some of
            the slots that must have the same expression.
    """
    there = [slot for slot in slots if slot.name in {choices.slot for choices in fitted.choices}]
    fillable = frozenset(slot.name for slot in choose_slots(only.slots, there, f"space {name}: only"))
    same = tuple(group for group in fitted.same if fillable & set(group))
    for group in same:
        if not fillable >= set(group):
            raise SpaceError(
                f"space {name}: only: {', '.join(group)} must have the same expression (same: true); allow all of "
                "these slots or none of them"
            )
    rule = AllOf([fitted.rule, Only(fitted.rule.slots, only, fillable)])
    # A slot that must stay empty needs no parameters.
    narrowed = tuple(_narrowed(choices, only) for choices in fitted.choices if choices.slot in fillable)
    excluded = tuple(row for row in fitted.excluded if row[0] in fillable)
    return Fitted(narrowed, rule, excluded, same)


def _narrowed(choices: SlotChoices, only: Restriction) -> SlotChoices:
    """Remove variants and compositions that no plan can use after the restriction.

    A composition with a forbidden fusion stays if no other composition gives a single variant. Such a composition is
    still needed, because it is reduced to a single variant if its variants declare the same properties.
    """
    variants = tuple(v for v in choices.variants if only.admits(v))
    compositions = tuple(c for c in choices.fillable if only.admits(skeleton(c)))
    # The shorter list of compositions is used only if it still gives every allowed expression.
    wanted = [e for e in choices.combinations.expressions if only.admits(e)]
    shorter = SlotChoices(choices.slot, compositions, variants, choices.distinct_properties)
    if compositions and all(e in shorter.combinations for e in wanted):
        return shorter
    return SlotChoices(choices.slot, choices.compositions, variants, choices.distinct_properties)


def necks_of(fitted: Fitted, slots: Sequence[SlotLike]) -> set[str]:
    """Return the necks that the plans of a fitted space can have, as expressions: `none` for plans without one."""
    necks = {slot.name for slot in slots if slot.levels}
    at = [choices for choices in fitted.choices if choices.slot in necks]
    return {e.canonical() for choices in at for e in choices.combinations.expressions} or {NONE.canonical()}


def reached(fitted: Fitted, slots: Sequence[SlotLike]) -> Fitted:
    """Restrict a fitted space to the plans whose modules all reach the output with the neck of the plan."""
    some = {slot.name: frozenset(slot.necks) for slot in slots if slot.necks is not None}
    if not some.keys() & set(fitted.rule.slots):
        return fitted
    neck = next((slot.name for slot in slots if slot.levels), None)
    rule = AllOf([fitted.rule, Reached(fitted.rule.slots, some, neck, necks_of(fitted, slots))])
    return Fitted(fitted.choices, rule, fitted.excluded, fitted.same)


def bound(name: str, fitted: Fitted, quotas: Iterable[Quota], slots: Sequence[SlotLike]) -> Fitted:
    """Restrict a fitted space to the plans within the quotas.

    Raises:
        SpaceError: If a quota names a slot that the fitted space does not have.
    """
    there = [slot for slot in slots if slot.name in {choices.slot for choices in fitted.choices}]
    counted = [choose_slots(quota.slots, there, f"space {name}: quotas", optional=True) for quota in quotas]
    places = [frozenset(slot.name for slot in each) for each in counted]
    rule = AllOf([fitted.rule, Counted(tuple(quotas), places, fitted.choices)])
    return Fitted(fitted.choices, rule, fitted.excluded, fitted.same)


def _read(parts: Sequence[Fitted], slots: Sequence[SlotLike]) -> tuple[str, ...]:
    """Return every slot that the rule of a part reads, in network order."""
    read = {name for part in parts for name in part.rule.slots}
    return tuple(slot.name for slot in slots if slot.name in read)


def _all_excluded(parts: Sequence[Fitted]) -> tuple[Excluded, ...]:
    return tuple(dict.fromkeys(row for part in parts for row in part.excluded))
