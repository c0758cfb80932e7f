"""Files: plain data read with bounds and clear errors, text replaced atomically, appending, kernel locks."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from nasbench.errors import InputError

__all__ = ["FileLock", "append", "cut_torn_line", "read_json", "read_yaml", "write_text"]

MAX_BYTES = 1_000_000
"""Of a file that people write; no settings file or space is that long."""

MAX_JSON_BYTES = 200_000_000
"""Of a file that a program wrote."""


class _PlainLoader(yaml.SafeLoader):
    """Plain data alone, and no aliases: a few of them can stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", event.start_mark)
        return super().compose_node(parent, index)


def read_yaml(
    path: str | Path, what: str, kind: type[InputError] = InputError, shown: str | Path | None = None
) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; {} for an empty one.

    Args:
        path: The file.
        what: What it is, in the singular, for messages ("settings", "space").
        kind: The error raised.
        shown: The path as the user wrote it, for messages.

    Raises:
        InputError: (or `kind`) If it cannot be read, is too long, is no YAML, or holds no mapping with text keys.
    """
    text = _text(Path(path), what, MAX_BYTES, kind, shown)
    path = path if shown is None else shown
    try:
        given = yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise kind(f"{what} {path} is no YAML: {_first(error)}") from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise kind(f"{what} {path} must hold a mapping of names to values, not {type(given).__name__}")
    odd = [key for key in given if not isinstance(key, str)]
    if odd:
        raise kind(f"{what} {path}: a name is text, got {str(odd[0])[:60]!r}")
    return given


def read_json(path: str | Path, what: str, kind: type[InputError] = InputError) -> Any:
    """Return what a JSON file holds.

    Raises:
        InputError: (or `kind`) If it cannot be read, is too long, or is no JSON.
    """
    text = _text(Path(path), what, MAX_JSON_BYTES, kind)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise kind(f"{what} {path} is no JSON: {_first(error)}") from None


def _text(path: Path, what: str, most: int, kind: type[InputError], shown: str | Path | None = None) -> str:
    name = path if shown is None else shown
    try:
        size = path.stat().st_size
        if size > most:
            raise kind(f"{what} {name} has {size:,} bytes; at most {most:,} are read")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise kind(f"cannot read {what} {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise kind(f"{what} {name} is no text in UTF-8") from None


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def write_text(path: Path, text: str) -> None:
    """Replace a file at once, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def append(path: Path, data: bytes, *, durable: bool) -> None:
    """Append to a file, nothing where the disk has not enough room; durable: wait until it is on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        before = os.fstat(descriptor).st_size
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
            if durable:
                os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)  # a disk that is full leaves half a line
            raise
    finally:
        os.close(descriptor)


def cut_torn_line(path: Path) -> None:
    """Cut what follows the last newline of a file: the trace of a write that was killed. Hold its lock."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:  # from the end, block by block: only the torn line is read
            start = max(0, keep - 4096)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep != end:
            file.truncate(keep)


class FileLock:
    """An advisory kernel lock on a file, released when its process dies. A context manager.

    Args:
        path: The lock file; created where missing, never removed.
        shared: Many may hold it shared, one alone exclusively.
    """

    def __init__(self, path: str | Path, *, shared: bool = False) -> None:
        self.path, self.shared = Path(path), shared
        self._descriptor: int | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; False where it is held elsewhere and `wait` is False."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        mode = fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, mode if wait else mode | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back; nothing where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
