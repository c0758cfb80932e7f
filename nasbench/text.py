"""Numbers and durations in the form in which people read and type them, and messages on stderr."""

from __future__ import annotations

import re
import sys

from nasbench.errors import InputError

__all__ = ["duration_s", "human", "mask_passwords", "narrate"]

_PASSWORDS = (
    # The match goes to the last @ of the line, because a password that was not quoted can contain an @, a slash or a
    # blank. If a URL was turned into a path, it has one slash.
    re.compile(r"(?P<before>\w://?[^\s:/?#@]*):.*(?P<after>@)"),
    re.compile(r"(?P<before>\bpassword)=(?:'[^']*'|[^\s&'\"]+)(?P<after>)", re.IGNORECASE),
)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?\Z")


def narrate(text: str) -> None:
    """Print a message for the user on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def mask_passwords(text: str) -> str:
    """Return a text in which three asterisks replace every password in a URL or a connection string.

    Example:
        >>> mask_passwords("cannot use postgresql://me:secret@host/studies")
        'cannot use postgresql://me:***@host/studies'
    """
    urls, pairs = _PASSWORDS
    return pairs.sub(r"\g<before>=***", urls.sub(r"\g<before>:***\g<after>", text))


def human(value: float, unit: str = "") -> str:
    """Return a count with a decimal prefix, such as 11.2 M or 1.82 G.

    Args:
        value: The count.
        unit: The unit, printed after the prefix.
    """
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {letter}{unit}"
    return f"{value:.4g}{' ' + unit if unit else ''}"


def duration_s(text: str) -> float:
    """Return the number of seconds of a duration such as "90", "90s", "30m", "2h" or "1d".

    Raises:
        InputError: If the text is not a positive duration.
    """
    match = _DURATION.match(text.strip())
    if not match or float(match.group(1)) <= 0:
        raise InputError(f"{text!r} is not a duration; write 90s, 30m or 2h")
    return float(match.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match.group(2) or "s"]
