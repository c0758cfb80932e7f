"""Text of numbers and plans in a report: missing values, intervals, unit prefixes, the name of the bare backbone."""

from __future__ import annotations

import math
from typing import Any

from nasbench.library.plan import BARE
from nasbench.text import human

__all__ = ["BARE_NAME", "figure_text", "is_missing", "plan_name", "with_interval"]

BARE_NAME = "bare backbone"


def plan_name(text: str) -> str:
    """Return the text of a plan, or the name of the bare backbone in place of "{}"."""
    return BARE_NAME if text == BARE.text else text


def is_missing(value: Any) -> bool:
    """Whether a cell of a data frame is missing: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def with_interval(value: Any, low: Any, high: Any, sign: str = "") -> str:
    """Return a number with its interval, such as "0.41 [0.39, 0.43]".

    Args:
        value: The number. A missing one gives "".
        low: Lower end, missing for none.
        high: Upper end.
        sign: "+" for a difference, which is written with its sign.
    """
    if is_missing(value):
        return ""
    value = 0.0 if abs(value) < 1e-12 else value  # rounding noise of equal means would print as 1.11e-16
    if is_missing(low) or low == high:
        return f"{value:{sign}.3g}" if sign else f"{value:.4g}"
    return f"{value:{sign}.3g} [{low:{sign}.2g}, {high:{sign}.2g}]" if sign else f"{value:.4g} [{low:.3g}, {high:.3g}]"


def figure_text(value: Any) -> str:
    """Return a number with four significant digits, or with a unit prefix from 1000 on. A missing one gives ""."""
    if is_missing(value):
        return ""
    return human(value) if isinstance(value, (int, float)) and abs(value) >= 1000 else f"{value:.4g}"
