"""Output of commands on stdout: tables, text or one JSON document. `nasbench.text.narrate` writes to stderr."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from nasbench.errors import InputError
from nasbench.text import printable

__all__ = [
    "SCHEMA_VERSION",
    "check_file",
    "command",
    "only_output_on_stdout",
    "print_json",
    "print_table",
    "print_text",
    "shown",
    "width",
    "write_file",
]

SCHEMA_VERSION = 1
"""Version of every `--json` document: `{"schema_version", "kind", "data"}`."""

_stdout: TextIO | None = None
"""Where a running command writes its data. None outside of `only_output_on_stdout`."""

_UNSHOWN = re.compile(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PIPE_WIDTH = 100_000
"""Width of a table in a file or a pipe, where no line is broken, so that other programs can read it."""

_WORD = 12
"""Texts of at most this many characters are not broken in a table."""


@contextmanager
def only_output_on_stdout() -> Iterator[None]:
    """Let only the functions of this file write to stdout. All other prints go to stderr.

    So a plug-in, a library or a worker process can print at any time, and the output of the command stays parseable.
    """
    global _stdout
    before, given = _stdout, sys.stdout
    descriptor = _descriptor(given)
    # Processes that are started inherit the descriptor, so the stream alone is not enough.
    kept = os.dup(descriptor) if descriptor is not None else None
    try:
        if kept is None or descriptor is None:
            _stdout = given
        else:
            given.flush()
            _stdout = os.fdopen(kept, "w", encoding=given.encoding, errors=given.errors, closefd=False)
            os.dup2(2, descriptor)
        with redirect_stdout(sys.stderr):
            yield
            _stdout.flush()
    finally:
        _stdout = before
        if kept is not None and descriptor is not None:
            os.dup2(kept, descriptor)
            os.close(kept)


def _descriptor(stream: TextIO) -> int | None:
    """Return the descriptor of the stdout of this process. None if the stream is another one, as in a notebook."""
    try:
        number = stream.fileno()
        os.fstat(2)
    except (AttributeError, OSError, ValueError):  # io.UnsupportedOperation is an OSError and a ValueError
        return None
    return number if number == 1 else None


def _output() -> TextIO:
    return _stdout or sys.stdout


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
    _output().write(text + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "", *, optional: Collection[str] = ()
) -> None:
    """Print a table on stdout. Columns with only numbers are aligned to the right.

    On a terminal that is too narrow, texts are broken but numbers and titles are not. If this does not help, each row
    is printed as a block with one line for each column. In a pipe nothing is broken.

    Args:
        columns: The titles.
        rows: One value for each column. A row that ends early has empty cells at its end.
        title: A line above the table.
        optional: Columns that are left out on a terminal that is too narrow.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Every later step takes one cell for each column for granted.
    rows = [[*row, *[None] * (len(columns) - len(row))] for row in map(list, rows)]
    if _least_width(columns, rows) > width():
        kept = [index for index, column in enumerate(columns) if column not in optional]
        columns, rows = [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]
    cells = [[_cell(value) for value in row] for row in rows]
    if title:
        print_text(title)
    if _least_width(columns, rows) > width():
        names = max(map(len, columns))
        print_text("\n\n".join("\n".join(_blocks(columns, row, names)) for row in cells))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], (int, float)) for row in rows if row[index] not in ("", None))
        whole = not _is_text(column, [row[index] for row in rows])
        justify: Any = "right" if numeric else "left"
        table.add_column(Text(printable(str(column))), justify=justify, overflow="fold", no_wrap=whole)
    for row in cells:
        # Cells are `Text`, because rich would interpret brackets in a plain string as markup.
        table.add_row(*map(Text, row))
    Console(file=_output(), width=width()).print(table)


def _is_text(column: str, values: Sequence[Any]) -> bool:
    """Return whether a column is broken on a narrow terminal: it has texts that are longer than a word or a number."""
    return any(isinstance(value, str) and len(value) > max(_WORD, len(column)) for value in values)


def _least_width(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Return the smallest width of a table whose numbers, words and titles are not broken."""
    widths = []
    for index, column in enumerate(columns):
        values = [row[index] for row in rows]
        longest = _WORD if _is_text(column, values) else max((len(_cell(value)) for value in values), default=0)
        widths.append(max(len(column), longest))
    return sum(widths) + 2 * (len(widths) - 1)


def _blocks(columns: Sequence[str], row: Sequence[str], names: int) -> Iterator[str]:
    for column, cell in zip(columns, row, strict=True):
        room = max(width() - names - 2, _WORD)
        first, *more = [cell[start : start + room] for start in range(0, len(cell), room)] or [""]
        yield f"{column:{names}}  {first}".rstrip()
        yield from (f"{'':{names}}  {part}" for part in more)


def width() -> int:
    """Return the width of tables and pages in characters: the terminal's width, or a fixed one without a terminal."""
    return shutil.get_terminal_size().columns if _output().isatty() else _PIPE_WIDTH


def check_file(file: Path | None, *, force: bool, option: str = "--out", kinds: Sequence[str] = ()) -> None:
    """Check that an option names a file that can be written. A command does this before the work whose result it is.

    Args:
        file: The file. None if the option was not given.
        force: Whether an existing file may be replaced.
        option: The option, for messages.
        kinds: The suffixes that the file can have, such as ".svg". By default any.

    Raises:
        InputError: If `file` is a folder or has no name, if its suffix is not one of `kinds`, if it exists and may not
            be replaced, or if its folder cannot be written.
    """
    if file is None:
        return
    if not file.name or _holds(file.is_dir):
        raise InputError(f"{option} {str(file)!r} is a folder; give the name of a file")
    if kinds and file.suffix.lower() not in kinds:
        raise InputError(f"{option} {file}: the name must end in {' or '.join(kinds)}")
    # A device or a pipe, such as /dev/stdout, loses nothing.
    if not force and _holds(file.is_file):
        raise InputError(f"{option} {file} exists already; give another name, or --force to replace it")
    _check_place(file, option)


def check_folder(folder: Path | None, *, force: bool) -> None:
    """Check that `--out` names a folder that can be written, as `check_file`.

    Raises:
        InputError: If `folder` is a file, if it contains something and may not be written to, or if it cannot be
            written.
    """
    if folder is None:
        return
    if _holds(folder.exists) and not _holds(folder.is_dir):
        raise InputError(f"--out {folder} is a file; give the name of a folder")
    _check_place(folder / "file", "--out")
    if not force and _holds(lambda: any(folder.iterdir())):
        raise InputError(
            f"--out {folder} contains files already; give another folder, or --force to replace those of the same name"
        )


def _check_place(file: Path, option: str) -> None:
    """Check that a file can be created, in a folder that need not exist yet."""
    place = next((parent for parent in file.parents if _holds(parent.exists)), None)
    if place is not None and not _holds(place.is_dir):
        raise InputError(f"{option}: cannot write {file}: {place} is not a folder")
    if place is not None and not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{option}: cannot write {file}: the folder {place} is not yours to write; choose another")


def _holds(question: Callable[[], bool]) -> bool:
    """Return the answer to a question about a path. False if it cannot be answered, for instance for too long a name.

    Writing reports such a fault.
    """
    try:
        return question()
    except (OSError, ValueError):
        return False


def write_file(file: Path, text: str) -> None:
    """Write the file that `--out` names, and create its folder. An existing file is replaced: see `check_file`.

    Raises:
        InputError: If the file cannot be written.
    """
    from nasbench.files import write_text  # imported here, because it imports YAML, which `--help` does not need

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
    _output().write(printable(text).rstrip("\n") + "\n")


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
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
