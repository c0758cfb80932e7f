#!/usr/bin/env python3
"""Time every module beside the most direct public or plain-torch form of it, and look how its memory grows.

    .venv/bin/python scripts/bench_modules [NAME...] [--rounds 15] [--device cuda] [--json]

The ratio is (peer's time) / (our time) of a forward and backward pass: above 1 we are faster. Ours and the peer run one
after the other, in random order, round by round; the ratio is the median over the rounds of the paired ratios, and
"±" half the distance between their quartiles. On a CPU the times are of one thread's processor time, so that a busy
machine counts little; on a GPU they are of CUDA events. A peer is a layer of timm, torchvision or torch where one of
them has the module, else a plain-torch form (bench_plain.py, bench_plain_maps.py); never code of nasbench.

Growth is the exponent of a training step's peak memory in the number of positions N: 1 where it is linear, a little
more for N log N (probsparse_attention), 2 where something of N x N is allocated.
timm/* are timm's own layers in a wrapper; there is nothing to compare. Ends with 1 where the aim is missed.
"""

import argparse
import json
import math
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from bench_peers import PEERS, Peer
from torch import Tensor, nn

from nasbench import create_module
from nasbench.library import modules as library
from nasbench.measurement.costs.memory import peak_memory_of
from nasbench.library.registry import ModuleSpec

SIZES = {2: ((64, (32, 32)), (256, (14, 14))), 1: ((64, (1024,)), (256, (192,)))}
GROWTH = {2: ((32, 32), (64, 32), (64, 64)), 1: ((1024,), (2048,), (4096,))}
LONG_ENOUGH_MS = 10  # a timing of less is repeated to that length
MEAN, LEAST, MOST = 1.0, 0.8, 1.25  # N log N grows by about 1.15 here, N x N by 2


def inputs(spec: ModuleSpec, channels: int, size: tuple[int, ...], device: str, batch: int = 8) -> tuple:
    if spec.kind == "neck":
        levels = [torch.randn(batch, channels << i, *(-(-s >> i) for s in size), device=device) for i in range(3)]
        return ([x.requires_grad_() for x in levels],)
    count = 2 if spec.kind == "fusion" else 1
    return tuple(torch.randn(batch, channels, *size, device=device, requires_grad=True) for _ in range(count))


def ours(spec: ModuleSpec, channels: int, dims: int) -> nn.Module:
    if spec.kind == "neck":
        return create_module(spec.name, [channels, 2 * channels, 4 * channels])
    return create_module(spec.name, channels, dims=dims)


def steps_ms(module: nn.Module, arguments: tuple, count: int) -> float:
    """Return milliseconds of `count` forward and backward passes."""
    device = flat(arguments)[0].device
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            step(module, arguments)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)
    begun = time.process_time()
    for _ in range(count):
        step(module, arguments)
    return 1e3 * (time.process_time() - begun)


def step(module: nn.Module, arguments: tuple) -> None:
    outputs = flat(module(*arguments))
    torch.autograd.backward(outputs, [torch.ones_like(y) for y in outputs])
    for tensor in (*module.parameters(), *flat(arguments)):
        tensor.grad = None


def flat(values: object) -> list[Tensor]:
    return [values] if isinstance(values, Tensor) else [t for value in values for t in flat(value)]


def compare(spec: ModuleSpec, peer: Peer, channels: int, size: tuple[int, ...], rounds: int, device: str) -> tuple:
    """Return the median paired ratio and half the distance between the quartiles."""
    torch.manual_seed(0)
    arguments = inputs(spec, channels, size, device)
    pair: list[tuple[str, nn.Module]] = [("ours", ours(spec, channels, len(size)).to(device).train())]
    pair.append(("peer", peer.build(channels, size).to(device).train()))
    shapes = [[y.shape for y in flat(module(*arguments))] for _, module in pair]
    assert shapes[0] == shapes[1], (spec.name, shapes)
    single_ms = max(steps_ms(module, arguments, 1) for _, module in pair)
    count = math.ceil(LONG_ENOUGH_MS / single_ms)
    ratios = []
    for _ in range(rounds):
        random.shuffle(pair)
        took = {name: steps_ms(module, arguments, count) for name, module in pair}
        ratios.append(took["peer"] / took["ours"])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, (high - low) / 2


def growth(spec: ModuleSpec, device: str) -> float:
    """Return the exponent in N of the peak memory of a training step, from N, 2 N and 4 N: constant parts cancel."""
    dims = max(spec.dims)
    module = ours(spec, 64, dims).to(device)
    larger = 8 if spec.kind == "neck" else 1  # a neck's weights and their gradients hide the maps of a small pyramid
    sizes = [tuple(larger * side for side in size) for size in GROWTH[dims]]
    first, second, third = (
        peak_memory_of(module, inputs(spec, 64, size, device, batch=2), training=True) for size in sizes
    )
    return math.log2((third - second) / (second - first))


def geometric_mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def benchmark(names: list[str], rounds: int, device: str, report: Callable[[dict], None]) -> list[dict]:
    rows = []
    for spec in library.module_specs():
        if spec.name not in PEERS or (names and spec.name not in names):
            continue
        peer, dims = PEERS[spec.name], max(spec.dims)
        row = {
            "name": spec.name,
            "peer": peer.label,
            "cost_order": spec.cost_order,
            "sizes": [],
            "ratios": [],
            "spread": [],
        }
        for channels, size in SIZES[dims]:
            ratio, spread = compare(spec, peer, channels, size, rounds, device)
            row["sizes"].append([8, channels, *size])
            row["ratios"].append(ratio)
            row["spread"].append(spread)
        row["growth"] = growth(spec, device)
        rows.append(row)
        report(row)
    return rows


def show(row: dict) -> None:
    figures = "".join(f"{r:8.2f} ±{s:4.2f}" for r, s in zip(row["ratios"], row["spread"], strict=True))
    print(f"{row['name']:24}{figures}{row['growth']:8.2f} N^{row['cost_order']}  {row['peer']}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    random.seed(0)
    if not options.json:
        print(f"{'module':24}{'C=64':>8}{'':6}{'C=256':>8}{'':6}{'growth':>8}      peer")
    rows = benchmark(options.names, options.rounds, options.device, (lambda row: None) if options.json else show)
    ratios = [ratio for row in rows for ratio in row["ratios"]]
    mean = geometric_mean(ratios)
    slow = [row["name"] for row in rows if min(row["ratios"]) < LEAST]
    large = [row["name"] for row in rows if row["cost_order"] == 1 and row["growth"] > MOST]
    if options.json:
        print(json.dumps({"geometric_mean": mean, "slow": slow, "more_than_linear": large, "rows": rows}, indent=1))
    else:
        print(f"geometric mean {mean:.3f} of {len(ratios)} ratios (aim: {MEAN} or more)")
        print(
            f"under {LEAST}: {', '.join(slow) or 'none'}; of cost order 1 but not linear: {', '.join(large) or 'none'}"
        )
    return 0 if mean >= MEAN and not slow and not large else 1


if __name__ == "__main__":
    sys.exit(main())
