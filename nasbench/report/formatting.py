"""Text of numbers and plans in a report: missing values, intervals, unit prefixes, the name of the bare backbone."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

from nasbench.library.plan import BARE, Plan
from nasbench.text import human

__all__ = ["BARE_NAME", "figure_text", "is_missing", "plan_name", "plan_words", "what_would_decide", "with_interval"]

BARE_NAME = "bare backbone"

_MOST_SEEDS = 100
"""The largest number of further seeds that a message states. Almost nobody trains a plan more often. A larger number
only means that no difference was found."""

_MOST_ITEMS = 1_000_000
"""The largest number of validation items that a message states. Almost nobody collects more. A larger number only
means that no difference was found."""


def plan_name(text: str) -> str:
    """Return the text of a plan, or the name of the bare backbone instead of "{}"."""
    return BARE_NAME if text == BARE.text else text


def plan_words(text: str) -> str:
    """Return a plan as it is typed in a shell, or the name of the bare backbone instead of "{}".

    If all slots of the plan have the same expression, it is written once.

    Example:
        >>> plan_words('{"stage1": "se", "stage3": "eca >> se"}')
        'stage1=se; stage3=eca >> se'
        >>> plan_words('{"stage1": "se", "stage2": "se", "stage4": "se"}')
        'se at stage1, stage2 and stage4'
    """
    plan = Plan.of(text)
    *others, last = plan or [""]
    if others and len({str(expression) for expression in plan.values()}) == 1:
        return f"{plan[last]} at {', '.join(others)} and {last}"
    return BARE_NAME if text == BARE.text else plan.typed


def what_would_decide(row: Mapping[Hashable, Any]) -> str:
    """Return, as a phrase, what is needed to decide a plan. "" if the plan is decided, or if nothing is known.

    Args:
        row: A row of `Run.finalists()`.
    """
    if row["verdict"] != "NOT DECIDED":
        return ""
    if row["more_seeds"] <= _MOST_SEEDS:
        return f"{row['more_seeds']:.0f} more seed{'' if row['more_seeds'] == 1 else 's'} would decide it"
    if is_missing(row["items_needed"]):
        # If both the number and the probability are missing, the noise is not known. If only the number is missing, it
        # is too large.
        known = not (is_missing(row["more_seeds"]) and is_missing(row["p_better"]))
        return f"over {_MOST_SEEDS} more seeds would decide it" if known else ""
    if row["items_needed"] > _MOST_ITEMS:
        return f"no number of seeds is enough, and over {_MOST_ITEMS:,} items would be needed"
    return f"no number of seeds is enough: {row['items_needed']:,.0f} items would decide it"


def is_missing(value: Any) -> bool:
    """Whether a cell of a data frame is missing: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def with_interval(value: Any, low: Any, high: Any, sign: str = "") -> str:
    """Return a number with its interval, such as "0.41 [0.39, 0.43]".

    Args:
        value: The number. "" is returned if it is missing.
        low: Lower end of the interval. Missing if there is no interval.
        high: Upper end of the interval.
        sign: "+" for a difference, which is written with its sign.
    """
    if is_missing(value):
        return ""
    value = 0.0 if abs(value) < 1e-12 else value  # otherwise rounding errors of equal means would print as 1.11e-16
    if is_missing(low) or low == high:
        return f"{value:{sign}.3g}" if sign else f"{value:.4g}"
    return f"{value:{sign}.3g} [{low:{sign}.2g}, {high:{sign}.2g}]" if sign else f"{value:.4g} [{low:.3g}, {high:.3g}]"


def figure_text(value: Any) -> str:
    """Return a number with four significant digits, or with a unit prefix from 1000 on. "" if it is missing."""
    if is_missing(value):
        return ""
    return human(value) if isinstance(value, (int, float)) and abs(value) >= 1000 else f"{value:.4g}"
