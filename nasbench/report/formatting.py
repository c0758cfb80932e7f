"""Figures and plans as a report writes them: missing values, intervals, unit prefixes, the bare backbone's name."""

from __future__ import annotations

import math
from typing import Any

from nasbench.library.plan import BARE
from nasbench.text import human

__all__ = ["BARE_NAME", "figure_text", "is_missing", "plan_name", "with_interval"]

BARE_NAME = "bare backbone"


def plan_name(text: str) -> str:
    """Return a plan's text as a reader sees it: the bare backbone has a name, no text."""
    return BARE_NAME if text == BARE.text else text


def is_missing(value: Any) -> bool:
    """Whether a cell of a data frame holds nothing: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def with_interval(value: Any, low: Any, high: Any, sign: str = "") -> str:
    """Return a figure with its interval: "0.41 [0.39, 0.43]"; `sign` "+" for a difference, "" for a missing figure."""
    if is_missing(value):
        return ""
    value = 0.0 if abs(value) < 1e-12 else value  # a difference of equal means, but for rounding
    if is_missing(low) or low == high:
        return f"{value:{sign}.3g}" if sign else f"{value:.4g}"
    return f"{value:{sign}.3g} [{low:{sign}.2g}, {high:{sign}.2g}]" if sign else f"{value:.4g} [{low:.3g}, {high:.3g}]"


def figure_text(value: Any) -> str:
    """Return a figure to four digits, a large one with a unit prefix; "" for a missing one."""
    if is_missing(value):
        return ""
    return human(value) if isinstance(value, (int, float)) and abs(value) >= 1000 else f"{value:.4g}"
