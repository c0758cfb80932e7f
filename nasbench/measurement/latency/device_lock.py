"""One lock for each device, across processes.

A measurement holds the lock alone. Training steps share it, and release it between steps if a measurement waits.
"""

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
"""A measurement that has waited this long for its device says so on stderr."""

_ALONE: set[tuple[Path, int]] = set()
"""Lock file and thread of every exclusive lock that this process holds."""


class DeviceLock:
    """The kernel lock of a device, as a context manager. The kernel releases it when the process dies.

    There are two lock files, the gate and the device. A measurement locks the gate first and then the device, and holds
    both. Training locks the gate only while it locks the device. Between steps it releases the device if the gate is
    locked. So a measurement waits for one training step at most, however many processes train. A thread that holds the
    device exclusively may take it again.

    Args:
        path: The device's lock file. The gate's file is beside it.
        shared: True for training, False for a measurement.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.shared = shared
        self._path, self._within = path, False
        self._alone: tuple[Path, int] | None = None
        self._gate = FileLock(path.with_suffix(".gate"), shared=shared)
        self._device = FileLock(path, shared=shared)

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the device.

        Returns:
            Whether it was taken. False only if it is not free and `wait` is False.
        """
        if (self._path, threading.get_ident()) in _ALONE:
            self._within = True  # a second kernel lock in the same thread would wait forever for the first
            return True
        if wait and not self.shared:
            if self.acquire(wait=False):  # in the common case it is free, and no timer is needed
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
            if self.shared or not taken:  # a measurement holds the gate, so that no further training step begins
                self._gate.release()
        if taken and not self.shared:
            self._alone = (self._path, threading.get_ident())
            _ALONE.add(self._alone)
        return taken

    def release(self) -> None:
        """Release the device. Does nothing if it is not held."""
        if self._within:
            self._within = False
            return
        if self._alone is not None:
            _ALONE.discard(self._alone)
            self._alone = None
        self._device.release()
        self._gate.release()

    def yield_device(self, *_: object) -> None:
        """Let a waiting measurement run, then continue.

        Meant as the `on_step` of training. It takes a few µs if no measurement waits.
        """
        if self._gate.acquire(wait=False):  # an open gate means that no measurement waits
            self._gate.release()
            return
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # kernels that were launched must end before another process has the device
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
    """Return the lock of a device. There is one for each user and device, whatever name a process has for the device.

    Args:
        device: "cpu" (the whole machine), "cuda" or "cuda:1".
        shared: True for training, which many processes may do, one step at a time. A measurement holds the lock alone.

    Example:
        >>> with device_lock("cpu", shared=True) as lock:
        ...     lock.yield_device()
    """
    device = torch.device(device)
    # By UUID, because the number of a GPU differs between processes with different CUDA_VISIBLE_DEVICES.
    name = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else device.type
    return DeviceLock(Path(tempfile.gettempdir()) / f"nasbench-{os.getuid()}-{name}.lock", shared=shared)


@contextmanager
def _saying(lock: Path, gate: Path) -> Iterator[None]:
    """Say on stderr what a measurement waits for, as soon as it has waited `PATIENCE_S`."""

    def say() -> None:
        others = sorted({*_holders(lock), *_holders(gate)} - {os.getpid()})
        who = f", held by process {', '.join(map(str, others))}" if others else ""
        narrate(f"waiting for the device's lock {lock}{who}; will continue as soon as it is free")

    timer = threading.Timer(PATIENCE_S, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _holders(path: Path) -> list[int]:
    """Return the ids of the processes that hold a kernel lock on a file. Empty on systems other than Linux."""
    try:
        inode = str(path.stat().st_ino)
        rows = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return []
    # A row is "1: FLOCK ADVISORY WRITE 4711 08:01:9182 0 EOF". A process that waits has "->" after its number.
    return [int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].rpartition(":")[2] == inode]
