"""Output of commands on stdout: tables, text or one JSON document. `nasbench.text.narrate` writes to stderr."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasbench.errors import InputError
from nasbench.text import printable

__all__ = [
    "SCHEMA_VERSION",
    "check_file",
    "command",
    "print_json",
    "print_table",
    "print_text",
    "shown",
    "width",
    "write_file",
]

SCHEMA_VERSION = 1
"""Version of every `--json` document: `{"schema_version", "kind", "data"}`."""

_UNSHOWN = re.compile(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PIPE_WIDTH = 200  # width of a table in a file or a pipe, which have no terminal width


def print_json(kind: str, data: Any) -> None:
    """Print one JSON document on stdout.

    Args:
        kind: What `data` is ("modules", "slots", ...).
        data: Data that JSON can represent. NaN and infinity become null.
    """
    document = {"schema_version": SCHEMA_VERSION, "kind": kind, "data": _finite(data)}
    text = json.dumps(document, indent=2, ensure_ascii=False)
    # JSON allows control characters that a terminal would obey, and surrogates that UTF-8 cannot encode. They are
    # written as escapes.
    if not text.isascii():
        text = _UNSHOWN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    sys.stdout.write(text + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Print a table on stdout. Columns with only numbers are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], (int, float)) for row in rows if row[index] not in ("", None))
        table.add_column(Text(printable(str(column))), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        # Cells are `Text`, because rich would interpret brackets in a plain string as markup.
        table.add_row(*[Text(_cell(value)) for value in row])
    if title:
        print_text(title)
    Console(width=width()).print(table)


def width() -> int:
    """Return the width of tables and pages in characters: the terminal's width, or a fixed one without a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH


def check_file(file: Path | None) -> None:
    """Check that `--out` names a file and not a folder. A command does this before the work whose result it writes.

    Raises:
        InputError: If `file` is a folder or has no name.
    """
    if file is not None and (not file.name or _is_folder(file)):
        raise InputError(f"--out {str(file)!r} is a folder; give the name of a file")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # for instance, the name is too long, which `write_file` reports
        return False


def write_file(file: Path, text: str) -> None:
    """Write the file that `--out` names, and create its folder. An existing file is replaced.

    Raises:
        InputError: If the file cannot be written.
    """
    from nasbench.files import write_text  # imported here, because it imports YAML, which `--help` does not need

    check_file(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {file}: {getattr(error, 'strerror', None) or error}") from None


def shown(path: Path) -> str:
    """Return a path as a user types it: relative to the working directory if the path is inside of it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def command(*words: str | Path) -> str:
    """Return a command that a user can copy into a shell: `nasbench` and its words, quoted where a shell needs it."""
    return shlex.join(["nasbench", *(shown(word) if isinstance(word, Path) else word for word in words)])


def print_text(text: str) -> None:
    """Print text on stdout. Terminal escapes in it are removed."""
    sys.stdout.write(printable(text).rstrip("\n") + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data.item() if hasattr(data, "item") else data  # JSON cannot represent the scalars of NumPy
