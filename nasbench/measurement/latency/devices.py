"""Find the torch device with a given name, and check that this machine has it.

A check of the name alone does not import torch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nasbench.errors import DeviceError, UnknownNameError

if TYPE_CHECKING:
    import torch

__all__ = ["all_devices", "check_device_name", "usable_device"]

_DEVICE = re.compile(r"auto|cpu(:0)?|cuda(:\d+)?")


def check_device_name(name: str) -> None:
    """Check that `name` is the name of a device. This does not check whether this machine has the device.

    Raises:
        UnknownNameError: If `name` is not the name of a device.
    """
    if not _DEVICE.fullmatch(name):
        raise UnknownNameError("device", name, ("auto", "cpu", "cuda"), "auto, cpu, cuda or cuda:1")


def all_devices() -> list[str]:
    """Return the names of this machine's devices: "cpu", then each "cuda:N"."""
    import torch  # imported here, because the names are checked without it

    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()) if torch.cuda.is_available())]


def usable_device(name: str | torch.device) -> torch.device:
    """Return the device with this name, including its index. "auto" means CUDA if there is a CUDA device, else the CPU.

    Raises:
        UnknownNameError: If `name` is not the name of a device.
        DeviceError: If this machine does not have the device.
    """
    check_device_name(str(name))
    import torch  # imported here, because the names are checked without it

    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    if device.type == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"no device {str(name)!r} here; there is {', '.join(all_devices())}")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
