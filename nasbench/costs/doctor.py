"""The instrument tested on this machine: does it call identical models the same, and find a model slowed by 5 %?"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from scipy.stats import binomtest
from torch import nn

from nasbench.costs._scenario import usable_device
from nasbench.costs.latency import Profile, device_lock, profile
from nasbench.errors import InputError

__all__ = ["MIN_TRIALS", "examine", "summarise"]

MIN_TRIALS = 40
"""Fewer trials say too little of a rate."""

TIME_S = 34.0
"""Of warm-up and blocks; copying the models comes on top, within 40 s in all."""

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
        the first trial, its text, and the versions.
    """
    same = sum(p["same"].verdict == "SAME" for p in found)
    slower = sum(p["slowed"].verdict == "SLOWER" for p in found)
    errors = [math.log(p["same"].ratio) for p in found if p["same"].samples]
    slowed = [p["slowed"].ratio for p in found if p["slowed"].samples]
    calls = sum(row.samples + row.discarded for p in found for row in p.rows)
    scenario = found[0].scenario
    return {
        "device": scenario.device,
        "trials": len(found),
        "aa_same_rate": same / len(found),
        "aa_same_interval": _wilson(same, len(found)),
        "power_5pct": slower / len(found),
        "power_5pct_interval": _wilson(slower, len(found)),
        "aa_sd": statistics.stdev(errors) if len(errors) > 1 else None,
        "slowed_ratio": statistics.median(slowed) if slowed else None,
        "resolution": found[0].resolution,
        "settled_share": sum(p.stopped == "resolution" for p in found) / len(found),
        "discarded_share": sum(row.discarded for p in found for row in p.rows) / calls,
        "scenario": scenario.to_dict(),
        "scenario_text": scenario.text,
        "versions": dict(scenario.versions),
    }


def chain(layers: int) -> nn.Sequential:
    """Return `layers` equal convolutions, one after another: (B, 8, H, W) to the same."""
    return nn.Sequential(*[nn.Conv2d(_INPUT_SIZE[0], _INPUT_SIZE[0], 3, padding=1) for _ in range(layers)])


def _wilson(successes: int, trials: int) -> list[float]:
    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]
