"""Files: read plain data with size limits and clear errors, replace text atomically, append, lock."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from nasbench.errors import InputError

__all__ = [
    "FileLock", "append", "copy_file", "cut_torn_line", "is_locked", "read_from", "read_json", "read_locked",
    "read_yaml", "write_bytes", "write_fault", "write_text",
]  # fmt: skip

MAX_BYTES = 1_000_000
"""Largest size, in bytes, of a file that a person writes. Larger ones are not read. Real ones are much smaller."""

MAX_JSON_BYTES = 200_000_000
"""Largest size, in bytes, of a file that a program writes. Larger ones are not read."""

READ_WAIT_S = 5.0
"""Seconds for which a reader waits for a writer. A writer has the lock for milliseconds, unless it was stopped."""

# A link is not followed, and opening a pipe without a writer does not block.
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _PlainLoader(yaml.SafeLoader):
    """A loader of plain data that refuses aliases and repeated keys.

    A few nested aliases can stand for billions of values. Of two values with the same key, YAML keeps the last and says
    nothing.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node, all of whose keys must differ."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value!r} is given twice, again in line {line}", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(
    path: str | Path, what: str, kind: type[InputError] = InputError, shown: str | Path | None = None
) -> dict[str, Any]:
    """Return the mapping in a YAML file, or {} if the file is empty.

    Args:
        path: The file.
        what: What the file is, in the singular, for messages ("settings", "space").
        kind: The class of the errors raised.
        shown: The path as the user wrote it, for messages.

    Raises:
        InputError: (or `kind`) If the file cannot be read, is too long, is not valid YAML, has a key twice, or is not
            a mapping with text keys.
    """
    text = _text(Path(path), what, MAX_BYTES, kind, shown)
    path = path if shown is None else shown
    try:
        given = yaml.load(text, _PlainLoader)
    # Besides YAML errors, PyYAML's constructors can raise others, such as a ValueError for the date 2024-13-45.
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise kind(f"{what} {path} is not valid YAML: {_first(error)}") from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise kind(f"{what} {path} must hold a mapping of names to values, not {type(given).__name__}")
    odd = [key for key in given if not isinstance(key, str)]
    if odd:
        raise kind(f"{what} {path}: a name must be text, got {str(odd[0])[:60]!r}")
    return given


def read_json(path: str | Path, what: str, kind: type[InputError] = InputError) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: (or `kind`) If the file cannot be read, is too long, or is not valid JSON.
    """
    text = _text(Path(path), what, MAX_JSON_BYTES, kind)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise kind(f"{what} {path} is not valid JSON: {_first(error)}") from None


def _text(path: Path, what: str, most: int, kind: type[InputError], shown: str | Path | None = None) -> str:
    name = path if shown is None else shown
    try:
        size = path.stat().st_size
        if size > most:
            raise kind(f"{what} {name} has {size:,} bytes; at most {most:,} are allowed")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise kind(f"cannot read {what} {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise kind(f"{what} {name} is not text in UTF-8") from None


def _first(error: Exception) -> str:
    # The first line of the text of a YAML error says where the parser was, not what it found.
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is not None and problem:
        # a key that is given twice names its line already
        return (
            problem[:200] if "line" in problem else f"line {mark.line + 1}, column {mark.column + 1}: {problem[:200]}"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically by text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file atomically, so that a reader never sees half of it. A device or a pipe is written to instead."""
    if path.exists() and not path.is_file():
        path.write_bytes(data)  # replacing /dev/null would make it a file
        return
    # The temporary file is in the same folder, because a rename is atomic only within one file system. Its name
    # contains the process id, so that two writers never share it.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    # "x" creates the file, so a link of that name in a folder of somebody else is never written through
    with temporary.open("xb") as file:
        file.write(data)
    temporary.replace(path)


def write_fault(error: OSError, if_read_only: str) -> str:
    """Return why something cannot be written into a folder, and what to do about it.

    Args:
        error: The error.
        if_read_only: What to do if the disk is read-only, or the folder belongs to somebody else.
    """
    fault = error.strerror or type(error).__name__
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{fault}; {if_read_only}"
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):  # a folder in place of a file, or the reverse
        return f"{error.filename} is in the way ({fault}); move it to another place"
    return fault


def read_from(path: Path, offset: int, most: int) -> bytes:
    """Return the bytes of a file from an offset on. The file is opened for reading only.

    Args:
        path: The file.
        offset: First byte to read.
        most: Largest size of the file, in bytes.

    Raises:
        OSError: If it cannot be opened, is a link or is not a regular file.
        ValueError: If it is larger than `most`.
    """
    descriptor = os.open(path, _READING)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(None, "it is not a regular file")
        if status.st_size > most:
            raise ValueError(f"it has {status.st_size:,} bytes; at most {most:,} are allowed")
        file.seek(offset)
        return file.read(status.st_size - offset) if status.st_size > offset else b""


def copy_file(source: str | Path, target: Path) -> None:
    """Copy a file to a new file, with its access and modification times. The source is opened for reading only.

    The permissions are not copied, because a copy of a read-only file must be writable.

    Raises:
        OSError: If the source cannot be opened, is a link or is not a regular file, or if the target exists or cannot
            be written.
    """
    with open(os.open(source, _READING), "rb") as read:
        status = os.fstat(read.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        with target.open("xb") as written:
            shutil.copyfileobj(read, written)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def read_locked(path: Path) -> Iterator[None]:
    """Hold a shared lock on an existing lock file, for the duration of the `with` block.

    If there is no lock file, or if it cannot be opened, nothing is locked and nothing is created. A reader must not
    depend on a writer. If a writer has the lock for more than `READ_WAIT_S`, or if the file system has no locks, the
    reader continues without a lock.
    """
    try:
        descriptor = os.open(path, _READING)
    except OSError:  # there is no lock file, or this user may not read it
        yield
        return
    try:
        end = time.monotonic() + READ_WAIT_S
        while not _locked_shared(descriptor) and time.monotonic() < end:
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process has the exclusive lock on a lock file. False if the file cannot be opened. Creates nothing."""
    try:
        descriptor = os.open(path, _READING)
    except OSError:
        return False
    try:
        return not _locked_shared(descriptor)
    finally:
        os.close(descriptor)


def _locked_shared(descriptor: int) -> bool:
    """Take a shared lock. Return False if a process has the exclusive lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks has no writer that could be in the way
        return True
    return True


def append(path: Path, data: bytes, *, durable: bool) -> None:
    """Append all of `data` to a file. If that fails, append nothing.

    Args:
        path: The file. It is created if it does not exist.
        data: The bytes to append.
        durable: Whether to wait until the data is on the disk.

    Raises:
        OSError: If the data cannot be written, for instance because the disk is full.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        before = os.fstat(descriptor).st_size
        left = memoryview(data)
        try:
            while left:  # `os.write` can write only a part of the data
                left = left[os.write(descriptor, left) :]
            if durable:
                os.fsync(descriptor)
        except OSError:
            # If the disk is full, only a part may have been written. It is removed, so that no half line remains.
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def cut_torn_line(path: Path) -> None:
    """Remove the text after the last newline of a file: an incomplete line, which a killed process left.

    The caller must hold the file's lock, so that no write is in progress.
    """
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:  # read from the end, block by block, so that only the torn line is read
            start = max(0, keep - 4096)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep != end:
            file.truncate(keep)


_LONGEST_SIGNATURE = 200
"""At most this many characters of a lock's signature are read, because anybody can have made the folder."""

_HELD: set[FileLock] = set()
"""The locks that this process holds."""


def _forget_locks() -> None:
    """Close the locks that a forked child inherited, so that they do not outlive the process that took them."""
    for lock in list(_HELD):
        lock._forget()


os.register_at_fork(after_in_child=_forget_locks)


class FileLock:
    """An advisory kernel lock on a file, as a context manager. The kernel releases it when the process dies.

    If this process forks while it has the lock, the child does not have the lock. So if this process dies, the lock is
    free.

    Args:
        path: The lock file. It is created if it does not exist, and never removed.
        shared: Whether to take a shared lock instead of an exclusive one. Many processes can have a shared lock at
            once.
        signed: Whether the lock file contains the process, the host and the time while the lock is held. See `owner`.
    """

    def __init__(self, path: str | Path, *, shared: bool = False, signed: bool = False) -> None:
        self.path, self.shared, self.signed = Path(path), shared, signed
        self._descriptor: int | None = None

    @property
    def owner(self) -> str:
        """The owner of a signed lock, such as "process 4711 on alpha since 2026-01-31 12:00:00". "" if it is not known.

        The value is valid only while a process has the lock, because a process that is killed leaves its signature.
        """
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(_LONGEST_SIGNATURE).strip()
        except OSError:
            return ""
        return text if text.isprintable() else ""

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock and return True. If another process has it and `wait` is False, return False."""
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
        _HELD.add(self)
        if self.signed:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            self._sign(f"process {os.getpid()} on {socket.gethostname()} since {now}\n")
        return True

    def release(self) -> None:
        """Release the lock if this object has taken it."""
        if self._descriptor is not None:
            if self.signed:
                self._sign("")
            self._forget()

    def _sign(self, text: str) -> None:
        assert self._descriptor is not None
        with suppress(OSError):  # if the disk is full, the process must get the lock all the same
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)

    def _forget(self) -> None:
        """Close the file. The kernel releases the lock when the last process that shares the descriptor closes it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        _HELD.discard(self)

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
