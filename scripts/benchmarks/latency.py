#!/usr/bin/env python
"""A/A error of three ways to compare two identical models, in one run: ours, torch.utils.benchmark's, a plain mean's.

    scripts/bench_latency [--backbone test_resnet] [--size 64] [--device cpu] [--seconds 2] [--repeats 15] [--json]

Every repeat gives each method the same seconds for two fresh copies of the model; the order of the methods rotates. The
figure is the standard deviation over repeats of the log-ratio between the two copies: 0 if nothing disturbed it.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch.utils import benchmark

from nasbench.measurement.latency.profiler import device_lock, profile

Pair = tuple[torch.nn.Module, torch.nn.Module]


def ours(pair: Pair, x: torch.Tensor, seconds: float) -> float:
    """Randomised blocks; no early stop, so that all methods have the same time."""
    models = {"a": pair[0], "b": pair[1]}
    options = {"device": x.device, "batch_size": len(x), "time_s": seconds, "resolution": 1e-6}
    return math.log(profile(models, input_size=tuple(x.shape[1:]), **options)["b"].ratio)


def torch_benchmark(pair: Pair, x: torch.Tensor, seconds: float) -> float:
    """`blocked_autorange` of one after the other; the ratio of its medians."""
    a, b = (
        benchmark.Timer("model(x)", globals={"model": model, "x": x}, num_threads=torch.get_num_threads())
        .blocked_autorange(min_run_time=seconds / 2)
        .median
        for model in pair
    )
    return math.log(b / a)


def plain_mean(pair: Pair, x: torch.Tensor, seconds: float) -> float:
    """A loop over one after the other; the ratio of the means."""
    a, b = (mean_time(model, x, seconds / 2) for model in pair)
    return math.log(b / a)


def mean_time(model: torch.nn.Module, x: torch.Tensor, seconds: float) -> float:
    """Seconds a call, after five calls of warm-up."""
    for _ in range(5):
        model(x)
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        model(x)
        calls += 1
        if x.is_cuda:
            torch.cuda.synchronize()
    return (time.perf_counter() - begin) / calls


def main() -> int:
    """Run the benchmark and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="test_resnet")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    model = timm.create_model(args.backbone).eval().to(args.device)
    x = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    scenario = profile({"a": model}, input_size=tuple(x.shape[1:]), device=x.device, time_s=0.1, max_blocks=1).scenario
    methods: list[Callable[[Pair, torch.Tensor, float], float]] = [ours, torch_benchmark, plain_mean]
    errors: dict[str, list[float]] = {method.__name__: [] for method in methods}
    for repeat in range(args.repeats):
        for method in methods[repeat % 3 :] + methods[: repeat % 3]:
            pair = copy.deepcopy(model), copy.deepcopy(model)
            if method is ours:  # takes the device's lock itself
                errors[method.__name__].append(ours(pair, x, args.seconds))
                continue
            with torch.no_grad(), device_lock(args.device):
                errors[method.__name__].append(method(pair, x, args.seconds))
    rows = {name: {"sd": statistics.stdev(e), "worst": max(map(abs, e))} for name, e in errors.items()}
    scenario = dataclasses.replace(scenario, batch_size=args.batch)
    if args.json:
        told = {"settings": vars(args), "scenario": scenario.to_dict(), "scenario_text": scenario.text}
        print(json.dumps({**told, "aa_log_ratio": rows, "errors": errors}))
        return 0
    print(f"A/A log-ratio over {args.repeats} repeats, {args.seconds:g} s each; {args.backbone}")
    print(f"scenario: {scenario.text}")
    for name, row in rows.items():
        print(f"{name:16} sd {100 * row['sd']:6.2f} %   worst {100 * row['worst']:6.2f} %")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
