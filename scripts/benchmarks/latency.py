"""Measure the A/A error of three ways to compare two identical models: ours, torch.utils.benchmark, a plain mean.

    .venv/bin/python scripts/benchmarks/latency.py [--backbone test_resnet] [--size 64] [--batch 1] [--device cpu]
                                                   [--seconds 2] [--repeats 15] [--json]

Every repeat gives each method the same seconds for two fresh copies of the model. The order of the methods rotates. The
figure is the standard deviation over repeats of the log-ratio between the two copies. It is 0 if nothing disturbed the
measurement. The ratio is a peer's deviation over ours, with the 95 % interval of a bootstrap of the repeats. Above 1
ours is steadier.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import timm
import torch
from torch.utils import benchmark

from nasbench.measurement.latency.intervals import Interval
from nasbench.measurement.latency.profiler import device_lock, profile
from scripts.benchmarks.paired import CONFIDENCE, Table, command_line, interval_text

Pair = tuple[torch.nn.Module, torch.nn.Module]
Method = Callable[[Pair, torch.Tensor, float], float]


def ours(pair: Pair, x: torch.Tensor, seconds: float) -> float:
    """Compare in randomised blocks, without an early stop, so that all methods have the same time."""
    answer = profile(
        {"a": pair[0], "b": pair[1]}, input_size=tuple(x.shape[1:]), device=x.device, batch_size=len(x),
        time_s=seconds, resolution=1e-6,
    )  # fmt: skip
    return math.log(answer["b"].ratio)


def torch_benchmark(pair: Pair, x: torch.Tensor, seconds: float) -> float:
    """Compare the medians of `blocked_autorange`, one model after the other."""
    a, b = (
        benchmark.Timer("model(x)", globals={"model": model, "x": x}, num_threads=torch.get_num_threads())
        .blocked_autorange(min_run_time=seconds / 2)
        .median
        for model in pair
    )
    return math.log(b / a)


def plain_mean(pair: Pair, x: torch.Tensor, seconds: float) -> float:
    """Compare the means of two loops, one model after the other."""
    a, b = (mean_time(model, x, seconds / 2) for model in pair)
    return math.log(b / a)


def mean_time(model: torch.nn.Module, x: torch.Tensor, seconds: float) -> float:
    """Return the mean seconds of a call, after five calls of warm-up."""
    for _ in range(5):
        model(x)
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        model(x)
        calls += 1
        if x.is_cuda:
            torch.cuda.synchronize()
    return (time.perf_counter() - begin) / calls


METHODS: tuple[Method, ...] = (ours, torch_benchmark, plain_mean)


def aa_errors(model: torch.nn.Module, x: torch.Tensor, seconds: float, repeats: int) -> dict[str, list[float]]:
    """Return each method's log-ratios between two copies of the model, one for each repeat."""
    errors: dict[str, list[float]] = {method.__name__: [] for method in METHODS}
    for repeat in range(repeats):
        first = repeat % len(METHODS)
        for method in METHODS[first:] + METHODS[:first]:
            pair = copy.deepcopy(model), copy.deepcopy(model)
            if method is ours:  # it takes the device's lock itself
                errors[method.__name__].append(ours(pair, x, seconds))
                continue
            with torch.no_grad(), device_lock(x.device):
                errors[method.__name__].append(method(pair, x, seconds))
    return errors


def deviation_ratio(theirs: Sequence[float], mine: Sequence[float]) -> Interval:
    """Return the ratio of the standard deviations with its interval, from a bootstrap of the repeats in pairs."""
    both = np.array([theirs, mine])
    drawn = np.random.default_rng(0).integers(both.shape[1], size=(2000, both.shape[1]))
    # A resample that holds one repeat several times has no deviation, and gives NaN or infinity. Infinity counts, so
    # the interval shows if there are too few repeats.
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = both[:, drawn].std(axis=2, ddof=1)
        low, high = np.nanquantile(a / b, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return statistics.stdev(theirs) / statistics.stdev(mine), float(low), float(high)


def main() -> int:
    """Run the benchmark and print a table, or JSON."""
    parser = command_line(__doc__)
    parser.add_argument("--backbone", default="test_resnet")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of each method in a repeat")
    parser.add_argument("--repeats", type=int, default=15, help="at least 2")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.repeats < 2:
        parser.error(f"--repeats {args.repeats}: a deviation needs at least 2")
    model = timm.create_model(args.backbone).eval().to(args.device)
    x = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    scenario = profile({"a": model}, input_size=tuple(x.shape[1:]), device=x.device, time_s=0.1, max_blocks=1).scenario
    scenario = dataclasses.replace(scenario, batch_size=args.batch)
    errors = aa_errors(model, x, args.seconds, args.repeats)
    rows = {name: {"sd": statistics.stdev(e), "worst": max(map(abs, e))} for name, e in errors.items()}
    ratios = {name: deviation_ratio(e, errors["ours"]) for name, e in errors.items() if name != "ours"}
    if args.json:
        told = {"settings": vars(args), "scenario": scenario.to_dict(), "scenario_text": scenario.text}
        print(json.dumps({**told, "aa_log_ratio": rows, "sd_ratio_to_ours": ratios, "errors": errors}))
        return 0
    print(f"A/A log-ratio over {args.repeats} repeats, {args.seconds:g} s each, of {args.backbone}")
    print(f"scenario: {scenario.text}")
    table = Table({"method": "<16", "sd": ">9", "worst": ">9", "sd / ours [95 %]": ">24"})
    table.print_head()
    for name, row in rows.items():
        ratio = interval_text(ratios[name]) if name in ratios else "1.00"
        table.print_row(name, f"{100 * row['sd']:.2f} %", f"{100 * row['worst']:.2f} %", ratio)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
