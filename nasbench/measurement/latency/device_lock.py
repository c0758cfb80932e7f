"""One lock for each device, across processes.

A measurement holds the lock alone. Processes that train share the lock. Between training steps they release it if a
measurement waits.
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
"""If a measurement has waited for its device for this many seconds, it says so on stderr."""

_ALONE: set[tuple[Path, int]] = set()
"""The lock file and the thread of every exclusive lock that this process holds."""


class DeviceLock:
    """The kernel lock of a device, as a context manager. The kernel releases it when the process dies.

    There are two lock files, the gate and the device. A measurement locks first the gate and then the device, and holds
    both locks. A training process locks the gate only until it has locked the device. Between steps it releases the
    device if the gate is locked. So a measurement waits for at most one training step, however many processes train. A
    thread that already holds the device exclusively may take it again.

    Args:
        path: The device's lock file. The gate's lock file is in the same folder.
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
            Whether the device was taken. It is False only if the device is not free and `wait` is False.
        """
        if (self._path, threading.get_ident()) in _ALONE:
            self._within = True  # a second kernel lock in this thread would wait for the first one forever
            return True
        if wait and not self.shared:
            if self.acquire(wait=False):  # in the common case the device is free, and no timer is needed
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
        """Release the device. This does nothing if the device is not held."""
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

        This can be passed to training as `on_step`. If no measurement waits, it takes a few microseconds.
        """
        if self._gate.acquire(wait=False):  # if the gate is free, no measurement waits
            self._gate.release()
            return
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # kernels that were launched must end before another process gets the device
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
    """Return the lock of a device. Each user has one lock for each device, no matter how a process names the device.

    Args:
        device: "cpu" (the whole machine), "cuda" or "cuda:1".
        shared: True for training, for which several processes can hold the lock. A measurement holds it alone.

    Example:
        >>> with device_lock("cpu", shared=True) as lock:
        ...     lock.yield_device()
    """
    device = torch.device(device)
    # The lock has the UUID in its name, because processes with different CUDA_VISIBLE_DEVICES number GPUs differently.
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
    """Return the ids of the processes that hold a kernel lock on a file, or [] on systems other than Linux."""
    try:
        inode = str(path.stat().st_ino)
        rows = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return []
    # A row is "1: FLOCK ADVISORY WRITE 4711 08:01:9182 0 EOF". A process that waits has "->" after its number.
    return [int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].rpartition(":")[2] == inode]
