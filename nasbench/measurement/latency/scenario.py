"""The scenario of a latency: the conditions under which it was measured. Without them, a latency means nothing."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nasbench import __version__
from nasbench.errors import InputError, UnknownNameError

if TYPE_CHECKING:  # a recorded scenario can be read without torch
    import torch

    from nasbench.measurement.latency.nvml import Nvml

__all__ = ["AMP", "MODES", "Scenario", "check_mode", "device_name"]

MODES = ("eager", "compile", "cudagraph")
AMP = ("none", "bfloat16", "float16")


@dataclass(frozen=True)
class Scenario:
    """The conditions of a measurement.

    Attributes:
        device: "cpu" or "cuda:N".
        device_name: Model of the processor or GPU.
        input_size: Shape of one input, without the batch dimension.
        batch_size: Number of inputs in the batch.
        dtype: Number type of the weights and the input.
        amp: Autocast: "none", "bfloat16" or "float16".
        tf32: Whether matrix products and convolutions of float32 may use TF32.
        channels_last: Whether weights and input are in the channels-last memory format.
        mode: "eager", "compile" or "cudagraph".
        threads: Number of CPU threads.
        cache: State of the cache before a call. "interleaved" means that other models ran between two calls of a model,
            and "flushed" means that the L2 cache was overwritten.
        denormals: Whether denormal numbers were "flushed" to zero or "kept".
        load_average: Load average of the machine over one minute, at the start of the measurement.
        versions: Versions of nasbench, torch, timm and python, and on a GPU also of CUDA, cuDNN and the driver.
        gpu: What the driver reported at the start: clocks, temperature, power and throttle reasons. Empty if it
            reported nothing.
        date: UTC date and time in ISO 8601 format.
    """

    device: str
    device_name: str
    input_size: tuple[int, ...]
    batch_size: int
    dtype: str = "float32"
    amp: str = "none"
    tf32: bool = False
    channels_last: bool = False
    mode: str = "eager"
    threads: int = 1
    cache: str = "interleaved"
    denormals: str = "kept"
    load_average: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    gpu: Mapping[str, int | None] = field(default_factory=dict)
    date: str = ""

    @classmethod
    def now(cls, device: torch.device, dtype: torch.dtype, nvml: Nvml | None, given: Mapping[str, Any]) -> Scenario:
        """Return the scenario of this moment. `given` contains the fields that the caller knows."""
        import torch

        cuda = device.type == "cuda"
        return cls(
            device=str(device),
            device_name=device_name(device),
            dtype=str(dtype).removeprefix("torch."),
            tf32=cuda and _tf32(),
            threads=torch.get_num_threads(),
            cache="flushed" if cuda else "interleaved",
            denormals="kept" if cuda else "flushed",
            load_average=round(os.getloadavg()[0], 2),
            versions=_versions(cuda, nvml),
            gpu=nvml.state() if nvml else {},
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **given,
        )

    @property
    def text(self) -> str:
        """The scenario in one line, for reports."""
        size = "x".join(map(str, self.input_size))
        parts = [f"{self.device} ({self.device_name})", f"batch {self.batch_size}", f"input {size}", self.dtype]
        parts += [f"autocast {self.amp}"] * (self.amp != "none") + ["TF32"] * self.tf32
        parts += ["channels_last"] * self.channels_last
        parts += [self.mode, f"{self.threads} thread{'s' * (self.threads != 1)}", f"cache {self.cache}"]
        parts += [] if self.load_average is None else [f"load {self.load_average:g}"]
        parts += [f"{name} {version}" for name, version in self.versions.items() if name in ("torch", "cuda", "driver")]
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the scenario as JSON-serialisable data."""
        return {**dataclasses.asdict(self), "input_size": list(self.input_size)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Scenario:
        """Return the scenario that `to_dict` wrote."""
        return cls(**{**given, "input_size": tuple(given["input_size"])})


def check_mode(mode: str = "eager", amp: str = "none") -> None:
    """Check the names of a mode and an autocast type.

    Raises:
        UnknownNameError: If there is no such mode or no such autocast type.
    """
    if mode not in MODES:
        raise UnknownNameError("mode", mode, MODES)
    if amp not in AMP:
        raise UnknownNameError("autocast type", amp, AMP)


def check_threads(threads: int | None) -> None:
    """Check a number of CPU threads. Far more threads than cores can end the process.

    Raises:
        InputError: If there are more threads than this machine has cores.
    """
    cores = os.cpu_count() or 1
    if threads is not None and threads > cores:
        raise InputError(f"threads={threads}: this machine has {cores} cores, and a measurement uses at most that many")


def _tf32() -> bool:
    import torch

    convolution = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return "tf32" in (torch.backends.cuda.matmul.fp32_precision, convolution)


def device_name(device: torch.device | str) -> str:
    """Return the model of a GPU, or of the processor of this machine."""
    import torch  # imported here, because a recorded scenario can be read without torch

    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


def _processor() -> str:
    # On Linux, platform.processor() does not give the model of the processor.
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _versions(cuda: bool, nvml: Nvml | None) -> dict[str, str]:
    import torch

    versions = {
        "nasbench": __version__,
        "torch": torch.__version__,
        "timm": importlib.metadata.version("timm"),
        "python": platform.python_version(),
    }
    if cuda:
        versions |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
        driver = nvml.driver if nvml else _driver()
        versions |= {"driver": driver} if driver else {}
    return versions


def _driver() -> str | None:
    """Return the version of NVIDIA's driver as the kernel gives it, or None. It is used if there is no NVML."""
    try:
        with open("/proc/driver/nvidia/version", encoding="utf-8") as file:
            words = file.readline().split()
    except OSError:
        return None
    return next((word for word in words if word[0].isdigit() and "." in word), None)
