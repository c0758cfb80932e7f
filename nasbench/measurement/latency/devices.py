"""Find the torch device that a name stands for, and check that this machine has it."""

from __future__ import annotations

import torch

from nasbench.errors import DeviceError

__all__ = ["all_devices", "usable_device"]


def all_devices() -> list[str]:
    """Return the names of this machine's devices: "cpu", then each "cuda:N"."""
    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()) if torch.cuda.is_available())]


def usable_device(name: str | torch.device) -> torch.device:
    """Return the device that `name` stands for, with its index. "auto" is CUDA if there is a CUDA device, else the CPU.

    Raises:
        DeviceError: If this machine does not have it, or it is neither a CPU nor a CUDA device.
    """
    there = f"there is {', '.join(all_devices())}"
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    except RuntimeError:
        raise DeviceError(f"{name!r} is not the name of a device; {there}") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda" or not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"no device {str(name)!r} here; {there}")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
