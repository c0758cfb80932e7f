"""One lock a device across processes: a measurement has it alone, training steps share it and let go between steps."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch

from nasbench.files import FileLock
from nasbench.text import narrate

__all__ = ["DeviceLock", "device_lock"]

PATIENCE_S = 2.0
"""A measurement that waits this long for its device says so."""

_ALONE: set[tuple[Path, int]] = set()
"""Device and thread of every exclusive hold of this process."""


class DeviceLock:
    """The kernel lock of a device, gone with its process. A context manager.

    Two files: who measures first takes the gate, then the device; who shares passes the gate on its way in, and leaves
    the device when it finds the gate shut. So a measurement waits for one training step, however many train. A thread
    that has the device alone may take it again.

    Args:
        path: The lock file; the gate lies beside it.
        shared: Shared by training; exclusive for a measurement.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.shared = shared
        self._path, self._within = path, False
        self._alone: tuple[Path, int] | None = None
        self._gate = FileLock(path.with_suffix(".gate"), shared=shared)
        self._device = FileLock(path, shared=shared)

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the device; False where it is not free and `wait` is False."""
        if (self._path, threading.get_ident()) in _ALONE:
            self._within = True
            return True
        if wait and not self.shared:
            if self.acquire(wait=False):
                return True
            with _saying(self._path, self._gate.path):
                return self._take(wait=True)
        return self._take(wait=wait)

    def _take(self, *, wait: bool) -> bool:
        if not self._gate.acquire(wait=wait):
            return False
        taken = False
        try:
            taken = self._device.acquire(wait=wait)
        finally:
            if self.shared or not taken:
                self._gate.release()
        if taken and not self.shared:
            self._alone = (self._path, threading.get_ident())
            _ALONE.add(self._alone)
        return taken

    def release(self) -> None:
        """Give it back; nothing where it is not held."""
        if self._within:
            self._within = False
            return
        if self._alone is not None:
            _ALONE.discard(self._alone)
            self._alone = None
        self._device.release()
        self._gate.release()

    def yield_device(self, *_: object) -> None:
        """Let a waiting measurement run, then go on; made to be training's `on_step`. A few µs where none waits."""
        if self._gate.acquire(wait=False):
            self._gate.release()
            return
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # what was launched must be done before another has the device
        self.release()
        self.acquire()

    def __enter__(self) -> DeviceLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def device_lock(device: str | torch.device, *, shared: bool = False) -> DeviceLock:
    """Return the lock of a device: one a user and device, whatever name a process has for it.

    Args:
        device: "cpu" (the machine), "cuda", "cuda:1".
        shared: Many may hold it shared: training, one step at a time. A measurement holds it alone.

    Example:
        >>> with device_lock("cpu", shared=True) as lock:
        ...     lock.yield_device()
    """
    device = torch.device(device)
    name = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else device.type
    return DeviceLock(Path(tempfile.gettempdir()) / f"nasbench-{os.getuid()}-{name}.lock", shared=shared)


@contextmanager
def _saying(lock: Path, gate: Path) -> Iterator[None]:
    """Say on stderr what a measurement waits for, once it has waited `PATIENCE_S`."""

    def say() -> None:
        others = sorted({*_holders(lock), *_holders(gate)} - {os.getpid()})
        who = f", held by process {', '.join(map(str, others))}" if others else ""
        narrate(f"waiting for the device's lock {lock}{who}; going on as soon as it is free")

    timer = threading.Timer(PATIENCE_S, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _holders(path: Path) -> list[int]:
    """Return the processes that hold a kernel lock on a file, as Linux tells; empty elsewhere."""
    try:
        inode = str(path.stat().st_ino)
        rows = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return []
    # "1: FLOCK ADVISORY WRITE 4711 08:01:9182 0 EOF"; a row that waits has "->" after its number
    return [int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].rpartition(":")[2] == inode]
