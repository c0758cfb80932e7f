"""Clocks, temperature and throttling of an NVIDIA GPU, where nvidia-ml-py is installed and the driver tells."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["Nvml"]

SLOW = 0.75
"""Share of the default clock under which a sample does not count."""


class Nvml:
    """What the driver tells of one GPU.

    Args:
        pynvml: The library, initialised.
        handle: Its handle of the GPU.

    Attributes:
        default_mhz: The SM clock that applications get by default, or else its maximum; None where neither is told.
        driver: The driver's version.
    """

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self._nvml, self._handle = pynvml, handle
        self.default_mhz = self._ask("nvmlDeviceGetDefaultApplicationsClock", pynvml.NVML_CLOCK_SM)
        self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        if self.default_mhz is None:
            self.default_mhz = self._ask("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM)

    @classmethod
    def open(cls, device: torch.device) -> Nvml | None:
        """Return the driver's view of a CUDA device; None where nvidia-ml-py or the driver does not give one."""
        try:
            import pynvml

            pynvml.nvmlInit()
            uuid = str(torch.cuda.get_device_properties(device).uuid)
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}"))
        except ImportError:
            return None
        except pynvml.NVMLError:
            return None

    @property
    def slow(self) -> bool:
        """Whether the SM clock is now under 75 % of its default; False where the driver does not tell."""
        clock = self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        return clock is not None and self.default_mhz is not None and clock < SLOW * self.default_mhz

    def state(self) -> dict[str, int | None]:
        """Return SM clock and its default (MHz), temperature (°C), power (W) and the throttle reasons (a bit mask)."""
        power = self._ask("nvmlDeviceGetPowerUsage")
        return {
            "sm_mhz": self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            "default_sm_mhz": self.default_mhz,
            "temperature_c": self._ask("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else power // 1000,
            "throttle_reasons": self._throttle_reasons(),
        }

    def _throttle_reasons(self) -> int | None:
        new, old = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
        reasons = self._ask(new)
        return self._ask(old) if reasons is None else reasons

    def _ask(self, question: str, *arguments: Any) -> int | None:
        try:
            return int(getattr(self._nvml, question)(self._handle, *arguments))
        except (self._nvml.NVMLError, AttributeError):  # not supported on this GPU, or gone from this version
            return None
