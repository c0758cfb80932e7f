"""Text as people read and type it: numbers, durations, messages, and text that is safe to write and to show."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from nasbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MAX_SIDE", "MAX_STEPS", "clean", "csv_text", "duration_s", "duration_text", "human", "mask_passwords", "narrate",
    "number_text", "printable",
]  # fmt: skip

MAX_SIDE = 16_384
"""Largest side of an image that a user can ask for, in pixels. Usual images are smaller."""

MAX_STEPS = 1_000_000
"""Largest number of steps or series that a user can ask for."""

_PASSWORDS = (
    # The match goes to the last @ of the line, because a password that was not quoted can contain an @, a slash or a
    # blank. If a URL was turned into a path, it has one slash.
    re.compile(r"(?P<before>\w://?[^\s:/?#@]*):.*(?P<after>@)"),
    re.compile(r"(?P<before>\bpassword)=(?:'[^']*'|[^\s&'\"]+)(?P<after>)", re.IGNORECASE),
)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?\Z")

_LONGEST_S = 3650 * 86400.0
"""Longest duration in seconds. A longer one is a slip."""

_LONGEST = 1000
"""Largest number of characters of a reason or note."""

# A sequence that moves the cursor, colours text or sets the title of a window: CSI, OSC and the two-character ones
# (ECMA-48, section 5). It is removed as a whole, because its letters alone would stay as rubbish.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -~]?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters except tab and newline, Unicode's line and paragraph separators, byte order marks, and marks by
which text is shown in another order than it is written."""
_SURROGATES = re.compile(r"[\ud800-\udfff]")
"""Halves of a character, which UTF-8 cannot hold. They come from file names in another encoding."""

_FORMULA = re.compile(r"[=@+\-\t\r]")
_FIGURE = re.compile(r"[+-][-+\d.,eE %\[\]]*\Z")


def narrate(text: str) -> None:
    """Print a message for the user on stderr."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def mask_passwords(text: str) -> str:
    """Return a text in which three asterisks replace every password in a URL or a connection string.

    Example:
        >>> mask_passwords("cannot use postgresql://me:secret@host/studies")
        'cannot use postgresql://me:***@host/studies'
    """
    urls, pairs = _PASSWORDS
    return pairs.sub(r"\g<before>=***", urls.sub(r"\g<before>:***\g<after>", text))


def printable(text: str) -> str:
    """Return text that changes nothing but the screen's text: no terminal escapes, control characters or surrogates.

    Tabs and newlines stay.

    Example:
        >>> printable("a\\x1b[31mb\\ud800")
        'ab\ufffd'
    """
    return text if text.isascii() and text.isprintable() else _shown(text)


def clean(text: str, most: int = _LONGEST) -> str:
    """Return text as one line that every file, table and terminal can hold, for reasons and notes.

    Args:
        text: Any text, for instance the message of somebody's exception.
        most: Largest number of characters. Longer text ends in "...".

    Example:
        >>> clean("bad \\ud800\\n  name")
        'bad \ufffd name'
    """
    text = text[: 4 * most]  # so that a message of megabytes costs nothing
    line = " ".join(_shown(text).split()) if "\n" in text or "\t" in text or not text.isprintable() else text.strip()
    return line if len(line) <= most else line[: most - 3] + "..."


def _shown(text: str) -> str:
    # a carriage return before a newline is only another way to end a line
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _SURROGATES.sub("\ufffd", _CONTROLS.sub("", text))


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV in which no cell and no title is a formula for a spreadsheet.

    A text that begins with =, +, -, @, tab or carriage return gets a leading apostrophe (OWASP, CSV injection), unless
    it is a number with its sign.
    """
    texts = {
        index: table.iloc[:, index].map(_without_formula)
        for index in range(table.shape[1])
        if str(table.dtypes.iloc[index]) in ("object", "str", "string")
    }
    if texts:
        table = table.copy(deep=False)
        for index, column in texts.items():
            table.isetitem(index, column.to_numpy(dtype=object))
    header = [str(_without_formula(str(name))) for name in table.columns]
    return table.to_csv(index=False, header=header).encode("utf-8", "replace").decode()


def _without_formula(value: object) -> object:
    if isinstance(value, str) and _FORMULA.match(value) and not _FIGURE.match(value):
        return "'" + value
    return value


def human(value: float, unit: str = "", digits: int = 3) -> str:
    """Return a count with a decimal prefix, such as 11.2 M or 1.82 G.

    Args:
        value: The count.
        unit: The unit, printed after the prefix.
        digits: Number of significant digits before the prefix.
    """
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.{digits}g} {letter}{unit}"
    return f"{value:.4g}{' ' + unit if unit else ''}"


def number_text(
    kind: type,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> str:
    """Return in words which numbers are allowed.

    Args:
        kind: int or float.
        least: Smallest allowed number. None if there is none.
        most: Largest allowed number. None if there is none.
        above: Allowed numbers are greater than this.
        below: Allowed numbers are smaller than this.

    Example:
        >>> number_text(int, least=1, most=1000)
        'a whole number from 1 to 1,000'
        >>> number_text(float, least=0, below=1)
        'a number of at least 0 and below 1'
    """
    if kind is int and below is not None:
        most, below = below - 1, None
    noun = "a whole number" if kind is int else "a number"
    if least is not None and most is not None:
        return f"{noun} from {least:,} to {most:,}"
    given = (("of at least", least), ("above", above), ("of at most", most), ("below", below))
    return " ".join([noun, " and ".join(f"{word} {limit:,}" for word, limit in given if limit is not None)]).strip()


def duration_text(seconds: float) -> str:
    """Return a duration as people say it, rounded: "8 s", "4 min", "2.5 h" or "3 days".

    Example:
        >>> [duration_text(seconds) for seconds in (0.2, 89, 100, 9000, 200_000)]
        ['1 s', '89 s', '2 min', '2.5 h', '2.3 days']
    """
    if seconds < 90:
        return f"{max(1, seconds):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.2g} h" if seconds < 36 * 3600 else f"{seconds / 86400:.2g} days"


def duration_s(text: str) -> float:
    """Return the number of seconds of a duration such as "90", "90s", "30m", "2h" or "1d".

    Raises:
        InputError: If the text is not a positive duration, or one of more than ten years.
    """
    match = _DURATION.match(text.strip())
    if not match or float(match.group(1)) <= 0:
        raise InputError(f"{text!r} is not a duration; write 90s, 30m or 2h")
    seconds = float(match.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match.group(2) or "s"]
    if seconds > _LONGEST_S:
        raise InputError(f"{text!r} is longer than {_LONGEST_S / 86400:,.0f} days, the longest duration")
    return seconds
