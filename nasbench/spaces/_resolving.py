"""Fit a written space to a backbone: which slots, which variants are left there, which rule holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from nasbench.errors import SpaceError, UnsupportedError
from nasbench.library.expression import Expression, build
from nasbench.spaces._choices import SlotChoices, join
from nasbench.spaces._compositions import skeleton
from nasbench.spaces._filters import expand
from nasbench.spaces._quotas import Quota, Restriction
from nasbench.spaces._resolved import ResolvedSpace
from nasbench.spaces._rules import AllOf, AnyOf, Chosen, Counted, Only, Rule, SideBySide
from nasbench.spaces._slots import choose_slots

if TYPE_CHECKING:
    from nasbench.spaces._space import Space

__all__ = ["resolve"]

Excluded = tuple[str, str, str]


@dataclass(frozen=True)
class _Fitted:
    """A space on a backbone, before it is shown to anyone."""

    choices: tuple[SlotChoices, ...]
    rule: Rule
    excluded: tuple[Excluded, ...]


def resolve(space: Space, slots: Sequence[Any]) -> ResolvedSpace:
    """Fit `space` to a backbone with these slots.

    Raises:
        SpaceError: If a slot does not exist, no variant fits any, or no plan is left.
    """
    fitted = _fit(space, slots)
    resolved = ResolvedSpace(space, fitted.choices, fitted.excluded, fitted.rule)
    if space.narrowing() and not resolved.count:
        raise SpaceError(f"space {space.name}: no plan is within its quotas and restrictions on this backbone")
    return resolved


def _fit(space: Space, slots: Sequence[Any]) -> _Fitted:
    if space.union:
        fitted = _unite([_fit(part, slots) for part in space.union], slots)
    elif space.product:
        fitted = _multiply(space.name, [_fit(part, slots) for part in space.product], slots)
    elif space.base:
        fitted = _fit(space.base, slots)
    else:
        fitted = _fit_variants(space, slots)
    if space.only:
        fitted = _restrict(space.name, fitted, space.only, slots)
    return _bound(space.name, fitted, space.quotas, slots) if space.quotas else fitted


def _fit_variants(space: Space, slots: Sequence[Any]) -> _Fitted:
    chosen = choose_slots(space.slots, slots, f"space {space.name}")
    written = {slot.name: (space.variants, space.compositions, space.distinct_properties) for slot in chosen}
    for override in space.overrides:
        for slot in choose_slots(override.slots, chosen, f"space {space.name}: overrides", optional=True):
            variants, compositions, distinct = written[slot.name]
            written[slot.name] = (
                override.variants or variants,
                override.compositions or compositions,
                distinct if override.distinct_properties is None else override.distinct_properties,
            )
    fits = _Fits()
    choices: list[SlotChoices] = []
    excluded: list[Excluded] = []
    for slot in chosen:
        variants, compositions, distinct = written[slot.name]
        kept_variants = [v for v in expand(variants) if fits(v, v.canonical(), slot, excluded)]
        kept_compositions = [c for c in compositions if fits(skeleton(c), c, slot, excluded)]
        if not kept_compositions:
            raise SpaceError(f"space {space.name}: no composition fits slot {slot.name}: {excluded[-1][2]}")
        choices.append(SlotChoices(slot.name, tuple(kept_compositions), tuple(kept_variants), distinct))
    if not any(each.variants for each in choices):
        reason = f"first reason: {excluded[0][2]}" if excluded else "none is given"
        raise SpaceError(f"space {space.name}: no variant fits this backbone; {reason}")
    return _Fitted(tuple(choices), Chosen(choices), tuple(excluded))


class _Fits:
    """Whether an expression can be built at a slot; asked once for all slots of the same channels and kind."""

    def __init__(self) -> None:
        self._refused: dict[tuple[Expression, int, int, bool], str | None] = {}

    def __call__(self, expression: Expression, text: str, slot: Any, excluded: list[Excluded]) -> bool:
        key = (expression, slot.channels, slot.dims, slot.rows_are_series)
        if key not in self._refused:
            self._refused[key] = _refusal(*key)
        reason = self._refused[key]
        if reason is not None:
            excluded.append((slot.name, text, reason))
        return reason is None


def _refusal(expression: Expression, channels: int, dims: int, rowwise: bool) -> str | None:
    """Return why an expression cannot be built for such a slot; None if it can."""
    try:
        with torch.device("meta"):
            build(expression, channels=channels, dims=dims, rowwise=rowwise)
    except UnsupportedError as error:
        return str(error)
    return None


def _unite(parts: Sequence[_Fitted], slots: Sequence[Any]) -> _Fitted:
    at: dict[str, list[SlotChoices]] = {}
    for part in parts:
        for choices in part.choices:
            at.setdefault(choices.slot, []).append(choices)
    joined = tuple(
        _with_empty(join(at[slot.name]), len(at[slot.name]) < len(parts)) for slot in slots if slot.name in at
    )
    return _Fitted(joined, AnyOf([part.rule for part in parts], _read(parts, slots)), _all_excluded(parts))


def _with_empty(choices: SlotChoices, needed: bool) -> SlotChoices:
    """Add `none` where a part of a union leaves the slot empty."""
    if not needed or "none" in choices.compositions:
        return choices
    return SlotChoices(choices.slot, ("none", *choices.compositions), choices.variants, choices.distinct_properties)


def _multiply(name: str, parts: Sequence[_Fitted], slots: Sequence[Any]) -> _Fitted:
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
    return _Fitted(kept, SideBySide(rules, _read(parts, slots)), _all_excluded(parts))


def _restrict(name: str, fitted: _Fitted, only: Restriction, slots: Sequence[Any]) -> _Fitted:
    there = [slot for slot in slots if slot.name in {choices.slot for choices in fitted.choices}]
    fillable = frozenset(slot.name for slot in choose_slots(only.slots, there, f"space {name}: only"))
    rule = AllOf([fitted.rule, Only(fitted.rule.slots, only, fillable)])
    kept = tuple(_narrowed(choices, only) for choices in fitted.choices if choices.slot in fillable)
    excluded = tuple(row for row in fitted.excluded if row[0] in fillable)
    return _Fitted(kept, rule, excluded)


def _narrowed(choices: SlotChoices, only: Restriction) -> SlotChoices:
    """Drop variants and compositions that no plan can use any more.

    A composition that brings a fusion which is not allowed stays where it is the only way to a variant alone, which it
    gives when both its variants declare the same properties.
    """
    variants = tuple(v for v in choices.variants if only.admits(v))
    compositions = tuple(c for c in choices.fillable if only.admits(skeleton(c)))
    wanted = [e for e in choices.combinations.expressions if only.admits(e)]
    kept = SlotChoices(choices.slot, compositions, variants, choices.distinct_properties)
    if compositions and all(e in kept.combinations for e in wanted):
        return kept
    return SlotChoices(choices.slot, choices.compositions, variants, choices.distinct_properties)


def _bound(name: str, fitted: _Fitted, quotas: Iterable[Quota], slots: Sequence[Any]) -> _Fitted:
    there = [slot for slot in slots if slot.name in {choices.slot for choices in fitted.choices}]
    counted = [choose_slots(quota.slots, there, f"space {name}: quotas", optional=True) for quota in quotas]
    places = [frozenset(slot.name for slot in each) for each in counted]
    rule = AllOf([fitted.rule, Counted(tuple(quotas), places, fitted.choices)])
    return _Fitted(fitted.choices, rule, fitted.excluded)


def _read(parts: Sequence[_Fitted], slots: Sequence[Any]) -> tuple[str, ...]:
    """Return every slot that a rule reads, in network order."""
    read = {name for part in parts for name in part.rule.slots}
    return tuple(slot.name for slot in slots if slot.name in read)


def _all_excluded(parts: Sequence[_Fitted]) -> tuple[Excluded, ...]:
    return tuple(dict.fromkeys(row for part in parts for row in part.excluded))
