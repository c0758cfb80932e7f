"""One lock a device across processes: a measurement has it alone, training steps share it and let go between steps."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType

import torch

from nasbench.storage import FileLock

__all__ = ["DeviceLock", "device_lock"]


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
