"""Text of numbers and plans in a report: missing values, intervals, unit prefixes, the name of the bare backbone."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from nasbench.library.plan import BARE, Plan
from nasbench.text import human

__all__ = [
    "BARE_NAME", "chance_text", "costs_text", "figure_text", "intervals_text", "is_missing", "listed",
    "plan_in_sentence", "plan_name", "plan_words", "what_would_decide", "with_interval",
]  # fmt: skip

BARE_NAME = "bare backbone"

_MOST_SEEDS = 100
"""The largest number of further seeds that a message states. Almost nobody trains a plan more often. A larger number
only means that no difference was found."""

_ROUNDING = 1e-12
"""A smaller difference comes from the rounding of two equal means."""

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
    """Return, as a phrase, what is needed to decide a plan.

    "" if the plan is decided or breaks a bound, or if nothing is known.

    Args:
        row: A row of `Run.finalists()`.
    """
    if row["verdict"] != "NOT DECIDED" or not is_missing(row.get("breaks") or None):
        return ""
    if row["more_seeds"] <= _MOST_SEEDS:
        return f"{row['more_seeds']:.0f} more seed{'' if row['more_seeds'] == 1 else 's'} would decide it"
    if is_missing(row["items_needed"]):
        # If both the number and the probability are missing, the noise is not known. If only the number is missing, it
        # is too large.
        known = not (is_missing(row["more_seeds"]) and is_missing(row["p_better"]))
        seeds = "no number of seeds" if _is_tie(row) else f"over {_MOST_SEEDS} more seeds"
        return f"{seeds} would decide it" if known else ""
    if row["items_needed"] > _MOST_ITEMS:
        return f"no number of seeds is enough, and over {_MOST_ITEMS:,} items would be needed"
    return f"no number of seeds is enough: {row['items_needed']:,.0f} items would decide it"


def _is_tie(row: Mapping[Hashable, Any]) -> bool:
    """Whether the plan and the bare backbone have exactly the same metric."""
    return abs(row["difference"]) < _ROUNDING


def is_missing(value: Any) -> bool:
    """Whether a cell of a data frame is missing: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def plan_in_sentence(row: Mapping[Hashable, Any]) -> str:
    """Return how a sentence of the headline names the plan of a row, such as "stage1=se (trial 4)"."""
    return f"{plan_words(row['plan'])} (trial {row['number']})"


def listed(value: Any) -> str:
    """Return a value of a file as text: the entries of a list or a mapping with commas, and anything else as it is."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {listed(each)}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def with_interval(value: Any, low: Any, high: Any, sign: str = "") -> str:
    """Return a number with its interval, such as "0.410 [0.390, 0.430]".

    All three are rounded to the same place: to two significant digits of the error, which is half the interval. Only an
    end of a difference that would be rounded to zero keeps one digit more than zeros, because its sign says whether the
    interval contains zero.

    Args:
        value: The number. "" is returned if it is missing.
        low: Lower end of the interval. Missing if there is no interval.
        high: Upper end of the interval.
        sign: "+" for a difference, which is written with its sign.

    Example:
        >>> with_interval(-0.000929, -0.0991, 0.0972, "+")
        '-0.001 [-0.099, +0.097]'
        >>> with_interval(0.0247, -0.000373, 0.0497, "+")
        '+0.025 [-0.0004, +0.050]'
    """
    if is_missing(value):
        return ""
    value = 0.0 if abs(value) < _ROUNDING else value  # otherwise rounding errors of equal means would print as 1.11e-16
    error = math.nan if is_missing(low) else (high - low) / 2
    if not (0 < error < math.inf):
        return f"{value:{sign}.3g}" if sign else f"{value:.4g}"
    place = 1 - math.floor(math.log10(error))  # decimal places

    def rounded(number: float) -> str:
        number = round(number, place) or 0.0
        if max(abs(low), abs(high)) >= 1e-4:
            return f"{number:{sign}.{max(0, place)}f}"
        # Written as 1.2e-06, because a row of zeros is not readable.
        return f"{number:{sign}.{max(0, place + math.floor(math.log10(abs(number))))}e}" if number else f"{0:{sign}d}"

    def end(number: float) -> str:
        lost = sign and abs(number) > 1e-12 and round(number, place) == 0
        return f"{number:{sign}.1g}" if lost else rounded(number)

    return f"{rounded(value)} [{end(low)}, {end(high)}]"


def intervals_text(rows: Iterable[tuple[Any, Any, Any]], sign: str = "") -> list[str]:
    """Return the texts of a column of numbers, each `with_interval` if it has one.

    A number without an interval has as many decimal places as the most exact number with one. If no number has one, all
    have the decimal places that four significant digits of the column need. So the numbers of a column align.

    Args:
        rows: Value, low and high of each row, any of which can be missing.
        sign: As in `with_interval`.

    Example:
        >>> intervals_text([(0.9034, 0.8851, 0.9212), (0.89961, None, None), (None, None, None)])
        ['0.903 [0.885, 0.921]', '0.900', '']
        >>> intervals_text([(0.8996, None, None), (0.9, None, None)])
        ['0.8996', '0.9000']
    """
    rows = list(rows)
    texts = [with_interval(value, low, high, sign) for value, low, high in rows]
    have = [text.split()[0] for text in texts if "[" in text]
    shown = have or [text for text in texts if text]
    places = max((len(text.partition(".")[2]) for text in shown), default=0)
    before = max((len(text.split()[0].lstrip("+-").partition(".")[0]) for text in texts if text), default=0)
    if before + places > _MOST_DIGITS or any("e" in text for text in texts):  # of very different size
        return texts
    return [
        f"{value:{sign}.{places}f}" if text and "[" not in text else text
        for text, (value, _, _) in zip(texts, rows, strict=True)
    ]


_MOST_DIGITS = 7
"""With more digits than this, numbers of a column are not aligned, because nobody reads as many."""


def chance_text(value: Any, digits: int = 3) -> str:
    """Return a probability. One that is not known to be 0 or 1 is not rounded to these. "" if it is missing.

    Example:
        >>> [chance_text(value) for value in (0.5, 0.99992, 0.0001, None)]
        ['0.500', '> 0.999', '< 0.001', '']
    """
    if is_missing(value):
        return ""
    least = 10.0**-digits
    if round(value, digits) >= 1:
        return f"> {1 - least:.{digits}f}"
    return f"{value:.{digits}f}" if round(value, digits) > 0 else f"< {least:.{digits}f}"


def figure_text(value: Any) -> str:
    """Return a number with four significant digits, or with a unit prefix from 1000 on. "" if it is missing."""
    if is_missing(value):
        return ""
    return human(value) if isinstance(value, (int, float)) and abs(value) >= 1000 else f"{value:.4g}"


def costs_text(values: Iterable[Any]) -> list[str]:
    """Return the texts of a column of costs. "" if a cost is missing.

    Costs are exact. So they have as many digits, from 3 to 9, as different costs need to have different texts.

    Example:
        >>> costs_text([148_001_000, 148_020_000, 148_020_000])
        ['148.00 M', '148.02 M', '148.02 M']
    """
    values = list(values)
    known = [float(value) for value in values if not is_missing(value)]
    if known and all(abs(value) < 1000 for value in known) and not all(value.is_integer() for value in known):
        return intervals_text((value, None, None) for value in values)
    digits = next((n for n in range(3, 9) if len({human(v, digits=n) for v in known}) == len(set(known))), 9)
    return ["" if is_missing(value) else _aligned(human(value, digits=digits), digits) for value in values]


def _aligned(text: str, digits: int) -> str:
    """Return a number with a unit prefix, with the zeros that its neighbours in a column have."""
    number, _, unit = text.partition(" ")
    if not unit or "e" in number:
        return text
    missing = digits - len(number.lstrip("-").replace(".", ""))
    return f"{number}{'' if '.' in number or missing <= 0 else '.'}{'0' * max(0, missing)} {unit}"
