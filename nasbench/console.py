"""What commands print: data on stdout as a table or JSON, narration on stderr, progress only on a terminal."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nasbench.errors import InputError

__all__ = ["SCHEMA_VERSION", "duration_s", "human", "narrate", "print_json", "print_table", "print_text", "width"]

SCHEMA_VERSION = 1
"""Version of every `--json` document: `{"schema_version", "kind", "data"}`."""

_PIPE_WIDTH = 200  # columns of a table that goes to a file or a pipe, where no terminal says its width
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?\Z")


def print_json(kind: str, data: Any) -> None:
    """Print one JSON document on stdout.

    Args:
        kind: What `data` is ("modules", "slots", ...).
        data: JSON-able; NaN and infinity become null.
    """
    document = {"schema_version": SCHEMA_VERSION, "kind": kind, "data": _finite(data)}
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Print a table on stdout; columns whose cells are all numbers are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], (int, float)) for row in rows if row[index] not in ("", None))
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(_cell(value)) for value in row])
    if title:
        print_text(title)
    Console(width=width()).print(table)


def width() -> int:
    """Return the columns that a table or page has: the terminal's, or a fixed number where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH


def print_text(text: str) -> None:
    """Print text on stdout."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def narrate(text: str) -> None:
    """Print a line of narration on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def human(value: float, unit: str = "") -> str:
    """Return a count as people read it: 11.2 M, 1.82 G.

    Args:
        value: The count.
        unit: Said after it.
    """
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {letter}{unit}"
    return f"{value:.4g}{' ' + unit if unit else ''}"


def duration_s(text: str) -> float:
    """Return the seconds that a duration such as "90", "90s", "30m" or "2h" means.

    Raises:
        InputError: If it is none.
    """
    found = _DURATION.match(text.strip())
    if not found or float(found.group(1)) <= 0:
        raise InputError(f"{text!r} is no duration; write 90s, 30m or 2h")
    return float(found.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found.group(2) or "s"]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data.item() if hasattr(data, "item") else data
