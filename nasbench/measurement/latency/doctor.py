"""Test the latency profiler on this machine.

It answers two questions. How often is a copy of a model called SAME? How often is a model that is slowed by 5 % called
SLOWER?
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nasbench.errors import InputError
from nasbench.measurement.latency.devices import usable_device
from nasbench.measurement.latency.profiler import Profile, device_lock, profile
from nasbench.measurement.latency.scenario import AMP, MODES

__all__ = ["MIN_POWER", "MIN_SAME", "MIN_TRIALS", "TIME_S", "examine", "summarise", "supported"]

MIN_SAME, MIN_POWER = 0.95, 0.8
"""Smallest acceptable rates with which identical models are called SAME, and models slowed by 5 % are called SLOWER."""

MIN_TRIALS = 40
"""Smallest number of trials from which a rate is estimated."""

TIME_S = 32.0
"""Seconds for all trials, including copying the models. With the start of Python, the command takes under 40 s."""

RESOLUTION = 0.015
"""Half-width that the intervals must reach. In less than a second, a trial must distinguish 0 % from 5 %."""

_LAYERS = 20  # with this number, one more layer is 5 % more work
_CHANNELS = 8
_SIDE = {"cpu": (16, 1), "cuda": (256, 4)}
"""Side of the maps in pixels, and the batch size, on each kind of device. On a GPU a convolution must take longer than
its launch. Otherwise the trial would test the host."""


def examine(
    device: str = "cpu",
    *,
    trials: int = MIN_TRIALS,
    time_s: float = TIME_S,
    seed: int = 0,
    measure: Callable[..., Profile] = profile,
) -> dict[str, Any]:
    """Test the latency profiler on a device. Each trial measures a model, an equal model, and a model slowed by 5 %.

    The model is a chain of 20 equal convolutions, and the slowed model is a chain of 21. This is 5 % more of the same
    work on any device. On the CPU, one thread is used. Each trial makes its own copies of the models, so their places
    in memory vary from trial to trial.

    Args:
        device: "cpu", "cuda", "cuda:1", or "auto".
        trials: Number of measurements, at least 40.
        time_s: Seconds for all trials together. Time that a trial does not need is shared among the later trials.
        seed: Seed of the inputs and of the order in which models are called.
        measure: The function to test, with the signature of `profile`.

    Returns:
        The entries of `summarise`, and the wall time in seconds, `wall_s`.

    Raises:
        DeviceError: If this machine does not have the device.
        InputError: If there are too few trials.
    """
    if trials < MIN_TRIALS:
        raise InputError(f"{trials} trials are too few to estimate a rate; give at least {MIN_TRIALS}")
    torch.manual_seed(seed)
    models = {"reference": chain(_LAYERS), "same": chain(_LAYERS), "slowed": chain(_LAYERS + 1)}
    profiles: list[Profile] = []
    # The lock is taken once for all trials, so that no trial spends its time on waiting.
    with device_lock(usable_device(device)):
        # The first call of all starts libraries, which takes seconds on a GPU. No trial pays for it.
        measure(models, **_load(device), device=device, threads=1, time_s=0.01, max_blocks=1, seed=seed)
        begin = time.perf_counter()
        for trial in range(trials):
            spent = time.perf_counter() - begin
            # The mean time that the trials so far have spent outside their measurements, on copies and set-up.
            aside = (spent - sum(p.wall_s for p in profiles)) / trial if trial else 0.0
            share = max((time_s - spent) / (trials - trial) - aside, 0.01)
            options: dict[str, Any] = {"time_s": share, "resolution": RESOLUTION, "seed": seed + trial}
            profiles.append(measure(models, **_load(device), device=device, threads=1, **options))
        wall_s = time.perf_counter() - begin
    return {**summarise(profiles), "wall_s": round(wall_s, 2)}


def summarise(profiles: list[Profile]) -> dict[str, Any]:
    """Return the rates of a list of trials as JSON-serialisable data.

    Returns:
        A dictionary with these entries.

        - device, trials, resolution: What was tested, how often, and the half-width that the intervals had to reach.
        - aa_same_rate: Share of the trials in which the equal model was called SAME. aa_same_interval is its 95 %
          Wilson interval.
        - power_5pct: Share of the trials in which the slowed model was called SLOWER. power_5pct_interval is its 95 %
          Wilson interval.
        - aa_sd: Standard deviation of the equal model's log-ratio over the trials. None for fewer than two trials.
        - slowed_ratio: Median over the trials of the slowed model's ratio. None if there is no sample.
        - settled_share: Share of the trials that stopped because the resolution was reached.
        - discarded_share: Share of calls that were discarded.
        - scenario, scenario_text, versions: The values from the first trial.
        - faults: A sentence for each rate whose whole interval lies below the smallest acceptable rate.
    """
    same = sum(p["same"].verdict == "SAME" for p in profiles)
    slower = sum(p["slowed"].verdict == "SLOWER" for p in profiles)
    errors = [math.log(p["same"].ratio) for p in profiles if p["same"].samples]
    slowed = [p["slowed"].ratio for p in profiles if p["slowed"].samples]
    calls = sum(row.samples + row.discarded for p in profiles for row in p.rows)
    scenario = profiles[0].scenario
    intervals = {"aa_same": _wilson(same, len(profiles)), "power_5pct": _wilson(slower, len(profiles))}
    return {
        "device": scenario.device,
        "trials": len(profiles),
        "aa_same_rate": same / len(profiles),
        "aa_same_interval": intervals["aa_same"],
        "power_5pct": slower / len(profiles),
        "power_5pct_interval": intervals["power_5pct"],
        "aa_sd": statistics.stdev(errors) if len(errors) > 1 else None,
        "slowed_ratio": statistics.median(slowed) if slowed else None,
        "resolution": profiles[0].resolution,
        "settled_share": sum(p.stopped == "resolution" for p in profiles) / len(profiles),
        "discarded_share": sum(row.discarded for p in profiles for row in p.rows) / calls,
        "scenario": scenario.to_dict(),
        "scenario_text": scenario.text,
        "versions": dict(scenario.versions),
        "faults": _faults(intervals),
    }


def supported(device: str) -> dict[str, str]:
    """Return, for each mode and autocast type, why a device does not support it, or "" if it does.

    Each is tried on a small model, except for "compile", whose first call takes half a minute. For "compile", this only
    checks that a C++ compiler is installed, and on a GPU also Triton.

    Raises:
        DeviceError: If this machine does not have the device.
    """
    usable_device(device)
    asked = [*(("mode", mode) for mode in MODES), *(("amp", amp) for amp in AMP if amp != "none")]
    return {
        value: _no_compiler(device) if value == "compile" else _refusal(device, {key: value}) for key, value in asked
    }


def _refusal(device: str, options: dict[str, Any]) -> str:
    try:
        profile({"probe": chain(1)}, **_load(device), device=device, time_s=0.01, max_blocks=1, **options)
    except InputError as error:
        return str(error)
    return ""


def _no_compiler(device: str) -> str:
    """Return what torch.compile's default backend lacks (a C++ compiler, or Triton for a GPU), or "" if it has all."""
    if usable_device(device).type == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton for a GPU, which is not installed (pip install triton)"
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    if not any(shutil.which(name) for name in compilers):
        return f"torch.compile needs a C++ compiler, and found none of {', '.join(compilers)}"
    return ""


def _faults(intervals: dict[str, list[float]]) -> list[str]:
    aims = {"aa_same": (MIN_SAME, "identical models are called SAME"), "power_5pct": (MIN_POWER, "5 % is found")}
    # A rate counts as a fault only if the upper end of its interval lies below the aim. So chance does not explain it.
    return [
        f"{what} in at most {100 * intervals[key][1]:.0f} % of trials, under the aim of {100 * least:.0f} %: do not "
        "trust a verdict from this machine in its present state; stop other programs on it and try again"
        for key, (least, what) in aims.items()
        if intervals[key][1] < least
    ]


def chain(layers: int) -> nn.Sequential:
    """Return a chain of `layers` equal convolutions, `(B, 8, H, W) -> (B, 8, H, W)`."""
    return nn.Sequential(*[nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1) for _ in range(layers)])


def _load(device: str) -> dict[str, Any]:
    """Return the input size and the batch size with which `profile` tests a device."""
    side, batch_size = _SIDE[usable_device(device).type]
    return {"input_size": (_CHANNELS, side, side), "batch_size": batch_size}


def _wilson(successes: int, trials: int) -> list[float]:
    from scipy.stats import binomtest  # imported here because it takes a second

    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]
