"""Reasons of failures and rejections, grouped: reasons that differ only in their numbers are one reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ReasonGroup", "grouped"]

_NUMBER = re.compile(r"(\d+(?:[.,]\d+)*(?:e[+-]?\d+)?)", re.IGNORECASE)


@dataclass(frozen=True)
class ReasonGroup:
    """Trials with one reason.

    Attributes:
        reason: The reason, with "…" for each number that is not the same in all of them.
        trials: The numbers of the trials, ascending. A plan with several seeds has one number.
        count: How many trainings had this reason.
    """

    reason: str
    trials: tuple[int, ...]
    count: int


def grouped(reasons: Iterable[tuple[int, str]]) -> list[ReasonGroup]:
    """Group reasons, the most frequent first.

    Args:
        reasons: The number of a trial, and its reason.

    Example:
        >>> groups = grouped([(1, "macs 120 breaks macs<=110"), (2, "NaN"), (3, "macs 130 breaks macs<=110")])
        >>> [(group.reason, group.trials) for group in groups]
        [('macs … breaks macs<=110', (1, 3)), ('NaN', (2,))]
    """
    by_form: dict[str, list[tuple[int, str]]] = {}
    for number, reason in reasons:
        by_form.setdefault(_NUMBER.sub("…", reason), []).append((number, reason))
    groups = [
        ReasonGroup(_common([reason for _, reason in of_form]), tuple(sorted({n for n, _ in of_form})), len(of_form))
        for of_form in by_form.values()
    ]
    return sorted(groups, key=lambda group: -group.count)


def _common(reasons: list[str]) -> str:
    """Return one text for reasons of one form. What differs between them are numbers."""
    # Split at a pattern with a group, every second piece is a number, and all reasons have equally many pieces.
    pieces = zip(*(_NUMBER.split(reason) for reason in reasons), strict=True)
    return "".join(same[0] if len(set(same)) == 1 else "…" for same in pieces)
