"""The instrument tested on this machine: does it call identical models the same, and find a model slowed by 5 %?"""

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
from nasbench.measurement.latency.profiler import AMP, MODES, Profile, device_lock, profile

__all__ = ["MIN_POWER", "MIN_SAME", "MIN_TRIALS", "TIME_S", "examine", "summarise", "supported"]

MIN_SAME, MIN_POWER = 0.95, 0.8
"""Rates aimed at: identical models called SAME, and one slowed by 5 % called SLOWER."""

MIN_TRIALS = 40
"""Fewer trials say too little of a rate."""

TIME_S = 32.0
"""Of all trials, copying the models included: with the start of Python it stays within 40 s."""

RESOLUTION = 0.015
"""Half-width asked of the intervals: a trial lasts less than a second, and must tell 0 from 5 %."""

_LAYERS = 20  # one more is 5 % more work
_INPUT_SIZE = (8, 16, 16)


def examine(
    device: str = "cpu",
    *,
    trials: int = MIN_TRIALS,
    time_s: float = TIME_S,
    seed: int = 0,
    measure: Callable[..., Profile] = profile,
) -> dict[str, Any]:
    """Test the latency profiler on a device: `trials` measurements, each of a model, its twin and one slowed by 5 %.

    The model is a chain of 20 equal convolutions, the slowed one a chain of 21: 5 % more of the same work, whatever the
    device, on one thread. Each trial has copies of its own, and so a place in memory of its own.

    Args:
        device: "cpu", "cuda", "cuda:1", or "auto".
        trials: Measurements, at least 40 for a rate worth telling.
        time_s: Seconds in all; what a trial does not need is shared among those that follow.
        seed: Of inputs and orders.
        measure: What is tested, with the signature of `profile`.

    Returns:
        As `summarise`, with the wall time.

    Raises:
        DeviceError: If the device is not there.
        InputError: If there are too few trials.
    """
    if trials < MIN_TRIALS:
        raise InputError(f"{trials} trials tell too little of a rate; give at least {MIN_TRIALS}")
    torch.manual_seed(seed)
    models = {"reference": chain(_LAYERS), "same": chain(_LAYERS), "slowed": chain(_LAYERS + 1)}
    found: list[Profile] = []
    with device_lock(usable_device(device)):  # held throughout: waiting for it is no part of the time
        begin = time.perf_counter()
        for trial in range(trials):
            spent = time.perf_counter() - begin
            aside = (spent - sum(p.wall_s for p in found)) / trial if trial else 0.0  # a trial's copies and set-up
            share = max((time_s - spent) / (trials - trial) - aside, 0.01)
            options: dict[str, Any] = {"time_s": share, "resolution": RESOLUTION, "seed": seed + trial}
            found.append(measure(models, input_size=_INPUT_SIZE, device=device, threads=1, **options))
        wall_s = time.perf_counter() - begin
    return {**summarise(found), "wall_s": round(wall_s, 2)}


def summarise(found: list[Profile]) -> dict[str, Any]:
    """Return the rates of a list of trials as JSON-able data.

    Returns:
        device; trials; aa_same_rate, the share of twins called SAME, and power_5pct, the share of slowed models called
        SLOWER, each with its 95 % Wilson interval; aa_sd, the standard deviation of the twins' log-ratio; the median
        ratio of the slowed model; the shares that stopped at the resolution and that were discarded; the scenario of
        the first trial, its text, and the versions; faults, a sentence for each rate whose whole interval lies under
        what is aimed at.
    """
    same = sum(p["same"].verdict == "SAME" for p in found)
    slower = sum(p["slowed"].verdict == "SLOWER" for p in found)
    errors = [math.log(p["same"].ratio) for p in found if p["same"].samples]
    slowed = [p["slowed"].ratio for p in found if p["slowed"].samples]
    calls = sum(row.samples + row.discarded for p in found for row in p.rows)
    scenario = found[0].scenario
    intervals = {"aa_same": _wilson(same, len(found)), "power_5pct": _wilson(slower, len(found))}
    return {
        "device": scenario.device,
        "trials": len(found),
        "aa_same_rate": same / len(found),
        "aa_same_interval": intervals["aa_same"],
        "power_5pct": slower / len(found),
        "power_5pct_interval": intervals["power_5pct"],
        "aa_sd": statistics.stdev(errors) if len(errors) > 1 else None,
        "slowed_ratio": statistics.median(slowed) if slowed else None,
        "resolution": found[0].resolution,
        "settled_share": sum(p.stopped == "resolution" for p in found) / len(found),
        "discarded_share": sum(row.discarded for p in found for row in p.rows) / calls,
        "scenario": scenario.to_dict(),
        "scenario_text": scenario.text,
        "versions": dict(scenario.versions),
        "faults": _faults(intervals),
    }


def supported(device: str) -> dict[str, str]:
    """Say of each mode and autocast type why a device does not support it; "" where it does.

    Each is tried on a small model, but for "compile", whose first call takes half a minute: there the compiler that it
    needs is looked for.

    Raises:
        DeviceError: If the device is not there.
    """
    usable_device(device)
    asked = [*(("mode", mode) for mode in MODES), *(("amp", amp) for amp in AMP if amp != "none")]
    return {
        value: _no_compiler(device) if value == "compile" else _refusal(device, {key: value}) for key, value in asked
    }


def _refusal(device: str, options: dict[str, Any]) -> str:
    try:
        profile({"probe": chain(1)}, input_size=_INPUT_SIZE, device=device, time_s=0.01, max_blocks=1, **options)
    except InputError as error:
        return str(error)
    return ""


def _no_compiler(device: str) -> str:
    """Say what torch.compile's default backend lacks: a C++ compiler, and Triton for a GPU."""
    if usable_device(device).type == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton for a GPU, which is not installed (pip install triton)"
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    if not any(shutil.which(name) for name in compilers):
        return f"torch.compile needs a C++ compiler, and finds none of {', '.join(compilers)}"
    return ""


def _faults(intervals: dict[str, list[float]]) -> list[str]:
    aims = {"aa_same": (MIN_SAME, "identical models are called SAME"), "power_5pct": (MIN_POWER, "5 % is found")}
    return [
        f"{what} in at most {100 * intervals[key][1]:.0f} % of trials, under the {100 * least:.0f} % aimed at: take no "
        "verdict from this machine as it is now; end what else runs on it, and try again"
        for key, (least, what) in aims.items()
        if intervals[key][1] < least
    ]


def chain(layers: int) -> nn.Sequential:
    """Return `layers` equal convolutions, one after another: (B, 8, H, W) to the same."""
    return nn.Sequential(*[nn.Conv2d(_INPUT_SIZE[0], _INPUT_SIZE[0], 3, padding=1) for _ in range(layers)])


def _wilson(successes: int, trials: int) -> list[float]:
    from scipy.stats import binomtest  # takes a second

    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]
