"""Clocks, temperature and throttling of an NVIDIA GPU, if nvidia-ml-py is installed and the driver reports them."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["Nvml"]

SLOW = 0.75
"""A sample is discarded if the clock was below this share of its default."""


class Nvml:
    """The state of one GPU, as its driver reports it.

    Args:
        pynvml: The initialised library.
        handle: The library's handle for the GPU.

    Attributes:
        default_mhz: SM clock in MHz that applications get by default. If it is unknown, the maximum clock. None if both
            are unknown.
        driver: Version of the driver.
    """

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self._nvml, self._handle = pynvml, handle
        self.default_mhz = self._ask("nvmlDeviceGetDefaultApplicationsClock", pynvml.NVML_CLOCK_SM)
        self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        if self.default_mhz is None:
            self.default_mhz = self._ask("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM)

    @classmethod
    def open(cls, device: torch.device) -> Nvml | None:
        """Return the state of a CUDA device, or None if nvidia-ml-py is not installed or the driver does not answer."""
        try:
            import pynvml

            pynvml.nvmlInit()
            # NVML numbers all GPUs of the machine, but torch only the visible ones. So the two indices of a GPU can
            # differ.
            uuid = str(torch.cuda.get_device_properties(device).uuid)
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}"))
        except ImportError:  # a separate clause, because the next one needs the module
            return None
        except pynvml.NVMLError:
            return None

    @property
    def slow(self) -> bool:
        """Whether the SM clock is now below 75 % of its default. False if the driver does not report the clock."""
        clock = self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        return clock is not None and self.default_mhz is not None and clock < SLOW * self.default_mhz

    def state(self) -> dict[str, int | None]:
        """Return the SM clock and its default (MHz), temperature (°C), power (W) and throttle reasons (a bit mask)."""
        power = self._ask("nvmlDeviceGetPowerUsage")
        return {
            "sm_mhz": self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            "default_sm_mhz": self.default_mhz,
            "temperature_c": self._ask("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else power // 1000,  # NVML gives milliwatts
            "throttle_reasons": self._throttle_reasons(),
        }

    def _throttle_reasons(self) -> int | None:
        # NVML renamed this query. An old driver or library knows only the old name.
        new, old = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
        reasons = self._ask(new)
        return self._ask(old) if reasons is None else reasons

    def _ask(self, question: str, *arguments: Any) -> int | None:
        try:
            return int(getattr(self._nvml, question)(self._handle, *arguments))
        except (self._nvml.NVMLError, AttributeError):  # the GPU or the library does not support this query
            return None
